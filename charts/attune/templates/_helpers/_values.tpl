{{/*
What holds for a component: `defaults`, and in place of any of its keys what the component says. JSON.
dict "root" $ "key" "policy"
*/}}
{{- define "attune.values" -}}
{{- $values := deepCopy .root.Values.defaults -}}
{{- range $name, $value := index .root.Values .key -}}
{{- $_ := set $values $name $value -}}
{{- end -}}
{{- $values | toJson -}}
{{- end -}}

{{/* The ports of each component. Pods have addresses of their own, so that nobody needs to change them. */}}
{{- define "attune.ports" -}}
policy: {app: 7001, control: 7101, metrics: 7201, http: 7301, health: 7401}
reward: {app: 7002, control: 7102, metrics: 7202, health: 7402}
ingest: {app: 7003, metrics: 7203, http: 7303, health: 7403}
join: {control: 7104, metrics: 7204, health: 7404}
trainer: {control: 7105, metrics: 7205, health: 7405}
{{- end -}}

{{/* Those that a component opens. JSON. dict "root" $ "key" "policy" */}}
{{- define "attune.openPorts" -}}
{{- $ports := index (include "attune.ports" . | fromYaml) .key -}}
{{- $own := index .root.Values .key -}}
{{- if and (hasKey $own "http") (not $own.http.enabled) -}}
{{- $ports = omit $ports "http" -}}
{{- end -}}
{{- $ports | toJson -}}
{{- end -}}

{{/* Questions that many templates ask; an empty answer is no. */}}
{{- define "attune.eventsAreEmbedded" -}}
{{- if not .Values.kafka.bootstrap -}}yes{{- end -}}
{{- end -}}

{{- define "attune.databaseIsEmbedded" -}}
{{- if not .Values.postgresql.host -}}yes{{- end -}}
{{- end -}}

{{- define "attune.registryIsVolume" -}}
{{- if not .Values.registry.url -}}yes{{- end -}}
{{- end -}}

{{- define "attune.needsData" -}}
{{- if or (include "attune.eventsAreEmbedded" .) (include "attune.databaseIsEmbedded" .) -}}yes{{- end -}}
{{- end -}}

{{/* Files of the embedded event log have one writer and are read through shared memory; a volume may be of one node. */}}
{{- define "attune.isOneNode" -}}
{{- $registryIsOfOneNode := and (include "attune.registryIsVolume" .) (ne .Values.registry.volume.accessMode "ReadWriteMany") -}}
{{- if or (include "attune.eventsAreEmbedded" .) $registryIsOfOneNode -}}yes{{- end -}}
{{- end -}}

{{/*
The drain budget: from the signal to the end a pod has `drainSeconds`. Endpoints hear of NOT_SERVING in the first part,
running calls end in the second, and the process closes what it opened in the last. JSON.
*/}}
{{- define "attune.drain" -}}
{{- $total := int .values.drainSeconds -}}
{{- $notice := has .key (list "policy" "reward" "ingest") | ternary 5 0 -}}
{{- dict "notice" $notice "grace" (sub $total (add $notice 5)) "total" $total | toJson -}}
{{- end -}}

{{/* The start-up budget: how often the start-up probe may fail at a look every two seconds. */}}
{{- define "attune.startupLooks" -}}
{{- divf (float64 .startupSeconds) 2 | ceil | int -}}
{{- end -}}

{{/* Of two images: ingest and join need no models. */}}
{{- define "attune.imageOf" -}}
{{- has . (list "ingest" "join") | ternary "slim" "full" -}}
{{- end -}}

{{/* A digest goes before a tag. dict "root" $ "image" "slim" or "full" */}}
{{- define "attune.image" -}}
{{- $common := .root.Values.image -}}
{{- $image := index $common .image -}}
{{- $registry := .root.Values.global.imageRegistry | default $common.registry -}}
{{- $name := list $registry $image.repository | compact | join "/" -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "attune.pullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.image.pullSecrets | uniq }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
