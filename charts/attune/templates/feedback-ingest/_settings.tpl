{{- define "attune.ingest.settings" -}}
{{ include "attune.settings.common" . }}
{{ include "attune.settings.events" .root }}
notice_s: {{ (include "attune.drain" . | fromJson).notice }}
grace_s: {{ (include "attune.drain" . | fromJson).grace }}
{{- end -}}
