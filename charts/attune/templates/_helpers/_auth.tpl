{{- define "attune.keysSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-keys" (include "attune.fullname" .)) -}}
{{- end -}}

{{/* Keys that the chart makes where no Secret is given: entry of the Secret → whom it names and what it opens. JSON. */}}
{{- define "attune.madeKeys" -}}
{{- $names := .Values.auth.secretKeys -}}
{{- $made := dict
  $names.trainerApp (dict "name" "attune.trainer" "scopes" (list "generate" "score"))
  $names.trainerControl (dict "name" "attune.trainer" "scopes" (list "control"))
  $names.operator (dict "name" "operator" "scopes" (list "control"))
  $names.test (dict "name" "helm-test" "scopes" (list "feedback" "generate" "score")) -}}
{{- range .Values.auth.apps -}}
{{- $_ := set $made (printf "app-%s.key" .name) (dict "name" .name "scopes" .scopes) -}}
{{- end -}}
{{- $made | toJson -}}
{{- end -}}
