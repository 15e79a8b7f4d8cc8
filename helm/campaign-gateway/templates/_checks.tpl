{{/*
What the schema cannot check: values that are valid alone but not together. Each refusal is one sentence that names the keys; a
pod that cannot start would say less, and later.
*/}}
{{- define "campaign-gateway.checks" -}}
{{- $config := .Values.config -}}
{{- if not .Values.existingConfigMap -}}
{{- range $key := list "streams" "credentials" -}}
{{- if not (get $config $key) -}}
{{- fail (printf "config.%s is needed: it names the platform application or its JWT app; see \"Install\" in the chart's README.md" $key) -}}
{{- end -}}
{{- end -}}
{{- if not (or $config.clients $config.allow_anonymous) -}}
{{- fail "config.clients is needed, because everybody in the cluster could call: name the callers (`campaign-gateway key new` makes a key), or set config.allow_anonymous: true" -}}
{{- end -}}
{{- end -}}
{{- include "campaign-gateway.checkAddresses" . -}}
{{- include "campaign-gateway.checkFiles" . -}}
{{- include "campaign-gateway.checkReplicas" . -}}
{{- if lt (include "campaign-gateway.terminationGracePeriodSeconds" . | int) (include "campaign-gateway.shutdownSeconds" . | int) -}}
{{- fail (printf "terminationGracePeriodSeconds must be at least config.shutdown.drain and grace together, which is %s s" (include "campaign-gateway.shutdownSeconds" .)) -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts is needed when ingress.enabled is true" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is needed when httpRoute.enabled is true: the Gateway it belongs to" -}}
{{- end -}}
{{- if and .Values.monitoring.serviceMonitor.enabled .Values.monitoring.podMonitor.enabled -}}
{{- fail "monitoring.serviceMonitor.enabled and monitoring.podMonitor.enabled exclude each other: every pod would be scraped twice" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.paths) -}}
{{- fail "ingress.paths is needed when ingress.enabled is true: an Ingress without a path leads nowhere" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled .Values.autoscaling.targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" .Values.resources)) -}}
{{- fail "autoscaling.targetCPUUtilizationPercentage is a share of resources.requests.cpu, which is not set" -}}
{{- end -}}
{{- if and .Values.keda.enabled (not .Values.keda.serverAddress) -}}
{{- fail "keda.serverAddress is needed when keda.enabled is true: the Prometheus to ask" -}}
{{- end -}}
{{- end -}}

{{- define "campaign-gateway.checkAddresses" -}}
{{- if kindIs "slice" .Values.config.listen -}}
{{- fail "config.listen must be one address in the chart, whose port the Service has: [::]:8080 is every address of both families" -}}
{{- end -}}
{{- range $key, $address := dict "listen" (include "campaign-gateway.listen" .) "admin_listen" (include "campaign-gateway.adminListen" .) -}}
{{- if or (hasPrefix "127." $address) (hasPrefix "localhost:" $address) (hasPrefix "[::1]:" $address) -}}
{{- fail (printf "config.%s is %s, which nothing outside the pod can reach: leave it out, or listen on 0.0.0.0 or [::]" $key $address) -}}
{{- end -}}
{{- end -}}
{{- if eq (include "campaign-gateway.port" .) (include "campaign-gateway.adminPort" .) -}}
{{- fail "config.listen and config.admin_listen must have different ports: the admin port is never exposed with the API" -}}
{{- end -}}
{{- end -}}

{{- define "campaign-gateway.checkReplicas" -}}
{{- $stateDir := dig "state_dir" "" (default dict .Values.config.cache) -}}
{{- if and $stateDir (ne (include "campaign-gateway.cacheUrl" .) "memory://") -}}
{{- fail "config.cache.state_dir is for memory:// only, and config.cache.url names a Redis, which keeps calls and entries itself: leave it out" -}}
{{- end -}}
{{- if and $stateDir (not (hasPrefix "/" $stateDir)) -}}
{{- fail (printf "config.cache.state_dir is %s and must be an absolute path: the chart mounts a volume there" $stateDir) -}}
{{- end -}}
{{- if and (include "campaign-gateway.hasWorkers" .) (eq (include "campaign-gateway.cacheUrl" .) "memory://") -}}
{{- fail "config.workers is above 1 and config.cache.url is memory://, so workers could not share budget, fills and invalidations: set config.cache.url to a Redis, or run one worker" -}}
{{- end -}}
{{- $most := include "campaign-gateway.mostReplicas" . | int -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- fail "autoscaling.enabled and keda.enabled exclude each other: two autoscalers would control one Deployment" -}}
{{- end -}}
{{- if gt (include "campaign-gateway.leastReplicas" . | int) $most -}}
{{- fail "minReplicas must not be above maxReplicas" -}}
{{- end -}}
{{- if and (gt $most 1) (include "campaign-gateway.isAlone" .) -}}
{{- fail (printf "config.cache.url is %s, so each of up to %d replicas would use the whole call budget: set config.cache.url to a Redis that all can reach, or run one replica without an autoscaler" (include "campaign-gateway.cacheUrl" .) $most) -}}
{{- end -}}
{{- $known := dig "replicas" 0 (default dict .Values.config.cache) | int -}}
{{- if and $known (lt $known $most) -}}
{{- fail (printf "config.cache.replicas is %d, but up to %d replicas share the call budget: leave it out, and the chart sets it" $known $most) -}}
{{- end -}}
{{- end -}}

{{/* Every file that the settings name must be mounted. */}}
{{- define "campaign-gateway.checkFiles" -}}
{{- $top := . -}}
{{- $files := include "campaign-gateway.filesOf" (dict "node" .Values.config "path" "") | fromJson -}}
{{- range $name, $credential := .Values.config.credentials -}}
{{- if and $credential.client_secret_env (not $top.Values.extraEnvFrom) -}}
{{- $names := list -}}
{{- range $top.Values.extraEnv }}{{ $names = append $names .name }}{{ end -}}
{{- if not (has $credential.client_secret_env $names) -}}
{{- fail (printf "config.credentials.%s.client_secret_env names %s, which neither extraEnv nor extraEnvFrom sets" $name $credential.client_secret_env) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $mount := printf "%s/" (include "campaign-gateway.secretsPath" .) -}}
{{- range $key, $file := $files -}}
{{- if hasPrefix $mount $file -}}
{{- $name := trimPrefix $mount $file -}}
{{- $found := hasKey $top.Values.secrets.create $name -}}
{{- range $top.Values.secrets.existing -}}
{{- if not .items }}{{ $found = true }}{{ end -}}
{{- range .items }}{{ if eq .path $name }}{{ $found = true }}{{ end }}{{ end -}}
{{- end -}}
{{- if not $found -}}
{{- fail (printf "config.%s names %s, which no secret contains: put %s into secrets.create, or the Secret that has it into secrets.existing" $key $file $name) -}}
{{- end -}}
{{- else if not (and (hasSuffix ".ca_file" $key) (hasPrefix "/etc/ssl/" $file)) -}}
{{- $found := false -}}
{{- range $top.Values.extraVolumeMounts -}}
{{- if or (eq .mountPath $file) (hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) $file) }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if not $found -}}
{{- fail (printf "config.%s names %s, where nothing is mounted: secrets are mounted in %s, other files by extraVolumeMounts" $key $file $mount) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
