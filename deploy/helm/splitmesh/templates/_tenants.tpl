{{/* (dict "root" $ "pool" name "wanted" list): tenants with their quotas, as `--tenants` reads them. */}}
{{- define "splitmesh.tenants" -}}
{{- $written := list -}}
{{- range $name := .wanted | default (keys .root.Values.tenants | sortAlpha) -}}
{{- if not (hasKey $.root.Values.tenants $name) -}}
{{- fail (printf "workerPools.%s.tenants: %q is not among tenants" $.pool $name) -}}
{{- end -}}
{{- $quotas := list -}}
{{- range $quota, $amount := (get $.root.Values.tenants $name).quota -}}
{{- $quotas = append $quotas (printf "%s=%s" $quota (include "splitmesh.written" $amount)) -}}
{{- end -}}
{{- $written = append $written (join ":" (compact (list $name (join "," $quotas)))) -}}
{{- end -}}
{{- join "," $written -}}
{{- end -}}
