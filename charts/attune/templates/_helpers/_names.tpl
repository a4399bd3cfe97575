{{/*
Names and labels. A component is one service in its container: `key` is its key in values.yaml and its name in the
settings of the code; the name that people see is the command's, so that `ingest` is feedback-ingest.
*/}}

{{- define "attune.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- end -}}
{{- $name | trimSuffix "-" -}}
{{- end -}}

{{- define "attune.component" -}}
{{- has . (list "ingest" "join") | ternary (printf "feedback-%s" .) . -}}
{{- end -}}

{{/* Of one object of a component: dict "root" $ "key" "policy". */}}
{{- define "attune.object" -}}
{{- printf "%s-%s" (include "attune.fullname" .root) (include "attune.component" .key) -}}
{{- end -}}

{{/* What selects the pods of a release: it never changes, for selectors cannot. */}}
{{- define "attune.releaseSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "attune.selector" -}}
{{ include "attune.releaseSelector" .root }}
app.kubernetes.io/component: {{ include "attune.component" .key }}
{{- end -}}

{{- define "attune.releaseLabels" -}}
{{ include "attune.releaseSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: attune
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "attune.labels" -}}
{{ include "attune.releaseLabels" .root }}
app.kubernetes.io/component: {{ include "attune.component" .key }}
{{- end -}}

{{/* Where others in the cluster reach a port of a component; names of headless services resolve to every pod. */}}
{{- define "attune.host" -}}
{{- printf "%s%s.%s.svc" (include "attune.object" .) (.suffix | default "") .root.Release.Namespace -}}
{{- end -}}
