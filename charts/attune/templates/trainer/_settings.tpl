{{- define "attune.trainer.settings" -}}
{{ include "attune.settings.common" . }}
{{ include "attune.settings.registry" .root }}
policy: {{ .root.Values.models.policy | quote }}
reward_model: {{ .root.Values.models.reward | quote }}
gate_model: {{ .root.Values.models.gate | quote }}
state_folder: /var/lib/attune/state
device: {{ gt (include "attune.gpus" . | int) 0 | ternary "cuda" "cpu" }}
drain_s: {{ (include "attune.drain" . | fromJson).grace }}
addresses: {{- include "attune.trainer.addresses" .root | nindent 2 }}
calls:
  app_bearer_file: /etc/attune/keys/trainer-app.key
  control_bearer_file: /etc/attune/keys/trainer-control.key
  {{- if .root.Values.tls.enabled }}
  tls: true
  ca_file: /etc/attune/tls/ca.crt
  {{- if .root.Values.tls.clientCertificates }}
  cert_file: /etc/attune/tls/tls.crt
  key_file: /etc/attune/tls/tls.key
  {{- end }}
  {{- end }}
{{- if .root.Values.trainer.lease.enabled }}
lease:
  name: {{ include "attune.object" . }}
  duration_s: {{ .root.Values.trainer.lease.durationSeconds }}
{{- end }}
{{- end -}}

{{/* The app ports of pods that are ready, the control ports of all. */}}
{{- define "attune.trainer.addresses" -}}
{{- $ports := include "attune.ports" . | fromYaml -}}
{{- range $key := list "policy" "reward" }}
{{ $key }}: {{ include "attune.host" (dict "root" $ "key" $key) }}:{{ index $ports $key "app" }}
{{- end }}
{{- range $key := list "policy" "reward" "join" }}
{{ $key }}_control: {{ include "attune.host" (dict "root" $ "key" $key "suffix" "-internal") }}:{{ index $ports $key "control" }}
{{- end }}
{{- end -}}
