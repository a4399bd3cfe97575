{{- define "attune.tlsSecret" -}}
{{- if .root.Values.tls.certManager.enabled -}}
{{- include "attune.object" . }}-tls
{{- else -}}
{{- index .root.Values.tls.existingSecrets .key -}}
{{- end -}}
{{- end -}}

{{/* Names under which a component is called, from near and far. */}}
{{- define "attune.tlsNames" -}}
{{- range $suffix := list "" "-http" "-internal" }}
{{- $name := printf "%s%s" (include "attune.object" $) $suffix }}
{{- $inNamespace := printf "%s.%s" $name $.root.Release.Namespace }}
- {{ $name }}
- {{ $inNamespace }}
- {{ $inNamespace }}.svc
- {{ $inNamespace }}.svc.{{ $.root.Values.clusterDomain }}
{{- end }}
- localhost
{{- range .root.Values.tls.certManager.extraNames }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "attune.certificate" -}}
{{- $cert := .root.Values.tls.certManager -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ include "attune.object" . }}
  labels: {{- include "attune.labels" . | nindent 4 }}
spec:
  secretName: {{ include "attune.tlsSecret" . }}
  duration: {{ $cert.duration }}
  renewBefore: {{ $cert.renewBefore }}
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: [digital signature, server auth, client auth]
  dnsNames: {{- include "attune.tlsNames" . | trim | nindent 4 }}
  issuerRef: {{- include "attune.issuer" .root | nindent 4 }}
{{- end -}}

{{- define "attune.issuer" -}}
{{- with .Values.tls.certManager.issuerRef -}}
name: {{ .name | default (include "attune.fullname" $) }}
kind: {{ .name | empty | ternary "Issuer" .kind }}
group: {{ .name | empty | ternary "cert-manager.io" .group }}
{{- end -}}
{{- end -}}
