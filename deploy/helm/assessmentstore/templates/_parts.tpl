{{/* What the pods have in common. Each part takes a dict: root is the chart's scope, component is web, worker, bridge or migrate. */}}

{{- define "assessmentstore.labels" -}}
app.kubernetes.io/name: assessmentstore
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "assessmentstore.meta" -}}
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  labels:
    {{- include "assessmentstore.labels" . | nindent 4 }}
{{- end }}

{{- define "assessmentstore.image" -}}
{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "assessmentstore.podSecurity" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "assessmentstore.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "assessmentstore.secrets" -}}
- name: DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .root.Values.secretName }}, key: database-url}}
- name: REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .root.Values.secretName }}, key: redis-url}}
- name: JWT_SECRET
  valueFrom: {secretKeyRef: {name: {{ .root.Values.secretName }}, key: jwt-secret, optional: true}}
- name: ASSESSMENTSTORE_KAFKA_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .root.Values.secretName }}, key: kafka-sasl-password, optional: true}}
- name: ASSESSMENTSTORE_KAFKA_SSL_KEY_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .root.Values.secretName }}, key: kafka-ssl-key-password, optional: true}}
{{- end }}

{{- define "assessmentstore.keys" -}}
- name: ASSESSMENTSTORE_ENCRYPTION_KEYS
  valueFrom: {secretKeyRef: {name: {{ .root.Values.secretName }}, key: encryption-keys, optional: true}}
{{- end }}

{{- define "assessmentstore.tls" -}}
- name: tls
  secret: {secretName: {{ .root.Values.tlsSecretName }}, optional: true, defaultMode: 0440}
{{- end }}

{{- define "assessmentstore.probes" -}}
livenessProbe:
  httpGet: {path: /health, port: http}
  initialDelaySeconds: 30
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /ready, port: http}
  initialDelaySeconds: 5
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "assessmentstore.spread" -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "assessmentstore.labels" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{- define "assessmentstore.disruption" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
{{ include "assessmentstore.meta" . }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "assessmentstore.labels" . | nindent 6 }}
{{- end }}
