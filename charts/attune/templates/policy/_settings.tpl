{{- define "attune.policy.settings" -}}
{{ include "attune.settings.common" . }}
{{ include "attune.settings.registry" .root }}
{{ include "attune.settings.events" .root }}
policy: {{ .root.Values.models.policy | quote }}
cache_folder: /var/cache/attune
device: {{ gt (include "attune.gpus" . | int) 0 | ternary "cuda" "cpu" }}
notice_s: {{ (include "attune.drain" . | fromJson).notice }}
grace_s: {{ (include "attune.drain" . | fromJson).grace }}
{{- end -}}
