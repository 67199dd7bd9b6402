{{/* Names and labels. A full name is at most 40 characters, so that what is appended fits. */}}

{{- define "splitmesh.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* (dict "root" $ "component" "edge" "pool" "gates"): what selects pods, and never changes. */}}
{{- define "splitmesh.selector" -}}
app.kubernetes.io/name: splitmesh
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
splitmesh.io/pool: {{ . }}
{{- end }}
{{- end -}}

{{- define "splitmesh.labels" -}}
{{ include "splitmesh.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* (dict "root" $ "key" "worker") */}}
{{- define "splitmesh.secret" -}}
{{- $prefix := .root.Values.secrets.prefix | default (include "splitmesh.fullname" .root) -}}
{{- get .root.Values.secrets.names .key | default (printf "%s-%s" $prefix .key) -}}
{{- end -}}

{{/* (dict "root" $ "role" "edge" "tag" "" or of a pool) */}}
{{- define "splitmesh.image" -}}
{{- printf "%s/%s:%s" .root.Values.image.prefix .role (.tag | default .root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{- define "splitmesh.embedded" -}}
{{- if eq .Values.broker.mode "embedded" }}true{{ end -}}
{{- end -}}

{{- define "splitmesh.brokerHost" -}}
{{- printf "%s-broker.%s.svc" (include "splitmesh.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "splitmesh.brokerUrl" -}}
{{- if include "splitmesh.embedded" . -}}
{{- printf "tls://%s:4222" (include "splitmesh.brokerHost" .) -}}
{{- else -}}
{{- required "broker.external.url is needed with broker.mode external" .Values.broker.external.url -}}
{{- end -}}
{{- end -}}

{{- define "splitmesh.leafTarget" -}}
{{- if include "splitmesh.embedded" . -}}
{{- printf "%s:7422" (include "splitmesh.brokerHost" .) -}}
{{- else -}}
{{- required "broker.external.leaf is needed by edges with a leaf broker" .Values.broker.external.leaf -}}
{{- end -}}
{{- end -}}

{{/* (list defaults overrides): YAML of the first with the second over it; false, 0 and "" override too. */}}
{{- define "splitmesh.merged" -}}
{{- $merged := deepCopy (index . 0) -}}
{{- range $key, $value := index . 1 | default dict -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $merged $key)) (ne $key "nodeSelector") -}}
{{- $_ := set $merged $key (include "splitmesh.merged" (list (get $merged $key) $value) | fromYaml) -}}
{{- else -}}
{{- $_ := set $merged $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $merged -}}
{{- end -}}
