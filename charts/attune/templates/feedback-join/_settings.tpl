{{- define "attune.join.settings" -}}
{{ include "attune.settings.common" . }}
{{ include "attune.settings.registry" .root }}
{{ include "attune.settings.events" .root }}
{{- if include "attune.databaseIsEmbedded" .root }}
database: sqlite:////var/lib/attune/data/join.db
{{- else }}
database: {{ include "attune.databaseUrl" .root.Values.postgresql | quote }}
database_password_file: /etc/attune/postgresql/password
{{- end }}
grace_s: {{ (include "attune.drain" . | fromJson).grace }}
{{- end -}}

{{- define "attune.databaseUrl" -}}
{{- $url := printf "postgresql+psycopg://%s@%s:%d/%s?sslmode=%s" .user .host (int .port) .database .sslMode -}}
{{- if .authoritySecret.name -}}
{{- $url = printf "%s&sslrootcert=/etc/attune/postgresql-authority/ca.crt" $url -}}
{{- end -}}
{{- $url -}}
{{- end -}}
