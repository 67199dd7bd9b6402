{{/* What pods have in common: who they are, what they may do, how settings reach them. */}}

{{- define "splitmesh.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "splitmesh.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* (dict "root" $ "component" "edge" "values" pool): the head of a pod's spec. */}}
{{- define "splitmesh.podHead" -}}
serviceAccountName: {{ include "splitmesh.fullname" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if .root.Values.priorityClasses.create }}
priorityClassName: {{ include "splitmesh.fullname" .root }}-{{ .component }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* (dict "root" $ "component" … "pool" …): replicas apart from each other, where that can be. */}}
{{- define "splitmesh.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "splitmesh.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* A value as an environment variable holds it: lists with commas, whole numbers without an exponent. */}}
{{- define "splitmesh.written" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* (dict "section" "EDGE" "settings" map "root" $) */}}
{{- define "splitmesh.settings" -}}
{{- range $field, $value := .settings }}
- name: SPLITMESH_{{ $.section }}_{{ upper $field }}
  value: {{ include "splitmesh.written" $value | quote }}
{{- end }}
- name: SPLITMESH_{{ .section }}_LOG_JSON
  value: {{ .root.Values.logJson | quote }}
{{- with .root.Values.otlpEndpoint }}
- name: SPLITMESH_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* root: the connection to the hub, or to a broker that is not ours. */}}
{{- define "splitmesh.connection" -}}
- name: SPLITMESH_NATS_URL
  value: {{ include "splitmesh.brokerUrl" . | quote }}
- name: SPLITMESH_NATS_CREDS
  value: /run/splitmesh/login/creds
{{- if hasPrefix "tls://" (include "splitmesh.brokerUrl" .) }}
- name: SPLITMESH_NATS_CA
  value: /run/splitmesh/ca/ca.crt
{{- end }}
{{- end -}}

{{/* (dict "root" $ "key" "worker"): volumes of the connection; their mounts are below. */}}
{{- define "splitmesh.connectionVolumes" -}}
- name: login
  secret:
    secretName: {{ include "splitmesh.secret" . }}
    items: [{key: creds, path: creds}]
{{- if hasPrefix "tls://" (include "splitmesh.brokerUrl" .root) }}
- name: ca
  secret:
    secretName: {{ include "splitmesh.secret" (dict "root" .root "key" "ca") }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- end -}}

{{- define "splitmesh.connectionMounts" -}}
- {name: login, mountPath: /run/splitmesh/login, readOnly: true}
{{- if hasPrefix "tls://" (include "splitmesh.brokerUrl" .) }}
- {name: ca, mountPath: /run/splitmesh/ca, readOnly: true}
{{- end }}
{{- end -}}

{{/* (dict "scheme" "HTTP" "startup" seconds): alive by /healthz; ready by /readyz, which knows model and broker. A first start
may make a plan, or fetch a model. */}}
{{- define "splitmesh.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ .scheme | default "HTTP" }}}
  periodSeconds: 5
  failureThreshold: {{ div .startup 5 }}
livenessProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ .scheme | default "HTTP" }}}
  periodSeconds: 10
  timeoutSeconds: 4
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: http, scheme: {{ .scheme | default "HTTP" }}}
  periodSeconds: 5
  timeoutSeconds: 4
  failureThreshold: 2
{{- end -}}

{{/* drain_s of the settings, and time for the rest of the way out. */}}
{{- define "splitmesh.graceSeconds" -}}
{{- add (ceil (.settings.drain_s | default 5)) (.more | default 10) -}}
{{- end -}}
