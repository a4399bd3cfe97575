{{- define "attune.reward.settings" -}}
{{ include "attune.settings.common" . }}
{{ include "attune.settings.registry" .root }}
reward_model: {{ .root.Values.models.reward | quote }}
cache_folder: /var/cache/attune
device: {{ gt (include "attune.gpus" . | int) 0 | ternary "cuda" "cpu" }}
notice_s: {{ (include "attune.drain" . | fromJson).notice }}
grace_s: {{ (include "attune.drain" . | fromJson).grace }}
{{- end -}}
