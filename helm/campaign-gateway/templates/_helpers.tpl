{{- define "campaign-gateway.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The selector of the pods; an upgrade must not change it. */}}
{{- define "campaign-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "campaign-gateway.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_" | trunc 63)
  "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $selector := include "campaign-gateway.selectorLabels" . | fromYaml -}}
{{- mergeOverwrite (deepCopy .Values.commonLabels) $own $selector | toYaml -}}
{{- end -}}

{{- define "campaign-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "campaign-gateway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "campaign-gateway.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where the secret files are mounted. */}}
{{- define "campaign-gateway.secretsPath" -}}/run/secrets/campaign-gateway{{- end -}}

{{- define "campaign-gateway.listen" -}}
{{- default "[::]:8080" .Values.config.listen -}}
{{- end -}}

{{- define "campaign-gateway.adminListen" -}}
{{- default "[::]:9090" .Values.config.admin_listen -}}
{{- end -}}

{{- define "campaign-gateway.port" -}}
{{- include "campaign-gateway.listen" . | splitList ":" | last -}}
{{- end -}}

{{- define "campaign-gateway.adminPort" -}}
{{- include "campaign-gateway.adminListen" . | splitList ":" | last -}}
{{- end -}}

{{- define "campaign-gateway.cacheUrl" -}}
{{- dig "url" "memory://" (default dict .Values.config.cache) -}}
{{- end -}}

{{/* The ports of the URL's hosts, sorted and once each, as JSON: `url`, and the port `usual` of a host that names none. */}}
{{- define "campaign-gateway.portsOf" -}}
{{- $ports := list -}}
{{- $rest := regexReplaceAll "^[a-z+]+://" .url "" -}}
{{- range regexReplaceAll "[/?].*$" $rest "" | splitList "@" | last | splitList "," -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default $.usual | int) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* The ports that a policy must allow for Redis. The bus of a cluster is between its servers alone. */}}
{{- define "campaign-gateway.redisPorts" -}}
{{- $url := include "campaign-gateway.cacheUrl" . -}}
{{- if .Values.networkPolicy.redisPorts -}}
{{- .Values.networkPolicy.redisPorts | toJson -}}
{{- else if hasPrefix "redis+sentinel:" $url -}}
{{- append (include "campaign-gateway.portsOf" (dict "url" $url "usual" "26379") | fromJsonArray) 6379 | uniq | toJson -}}
{{- else -}}
{{- include "campaign-gateway.portsOf" (dict "url" $url "usual" "6379") -}}
{{- end -}}
{{- end -}}

{{/* The ports that a policy must allow for the platform, or for the proxy on the way to it. */}}
{{- define "campaign-gateway.platformPorts" -}}
{{- $platform := default dict .Values.config.platform -}}
{{- $url := default (default "https://platform" $platform.url) $platform.proxy -}}
{{- if .Values.networkPolicy.platformPorts -}}
{{- .Values.networkPolicy.platformPorts | toJson -}}
{{- else -}}
{{- include "campaign-gateway.portsOf" (dict "url" $url "usual" (hasPrefix "http:" $url | ternary "80" "443")) -}}
{{- end -}}
{{- end -}}

{{/* The ports that a policy must allow for the targets of webhooks, or for the proxies on the way to them; none without any. */}}
{{- define "campaign-gateway.webhookPorts" -}}
{{- $ports := list -}}
{{- if .Values.networkPolicy.webhooks -}}
{{- range default dict .Values.config.webhooks -}}
{{- $url := default .url .proxy -}}
{{- $found := include "campaign-gateway.portsOf" (dict "url" $url "usual" (hasPrefix "http:" $url | ternary "80" "443")) -}}
{{- $ports = concat $ports ($found | fromJsonArray) -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* Whether other pods cannot share the cache and the call budget: it is in the pod, or a socket on its node. */}}
{{- define "campaign-gateway.isAlone" -}}
{{- if regexMatch "^(memory|unix)://" (include "campaign-gateway.cacheUrl" .) }}true{{ end -}}
{{- end -}}

{{/* Where a pod without Redis keeps its state for the next container; empty with Redis. */}}
{{- define "campaign-gateway.statePath" -}}
{{- if hasPrefix "memory://" (include "campaign-gateway.cacheUrl" .) -}}
{{- dig "state_dir" "/var/lib/campaign-gateway" (default dict .Values.config.cache) -}}
{{- end -}}
{{- end -}}

{{/* Whether a pod runs several workers, which need a folder for their sockets. */}}
{{- define "campaign-gateway.hasWorkers" -}}
{{- if gt (dig "workers" 1 .Values.config | int) 1 }}true{{ end -}}
{{- end -}}

{{/* The fewest and the most pods that the release can have. */}}
{{- define "campaign-gateway.leastReplicas" -}}
{{- with .Values -}}
{{- if .autoscaling.enabled }}{{ .autoscaling.minReplicas }}
{{- else if .keda.enabled }}{{ .keda.minReplicas }}
{{- else }}{{ .replicas }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "campaign-gateway.mostReplicas" -}}
{{- with .Values -}}
{{- if .autoscaling.enabled }}{{ .autoscaling.maxReplicas }}
{{- else if .keda.enabled }}{{ .keda.maxReplicas }}
{{- else }}{{ .replicas }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* A duration of the settings in seconds, rounded up. */}}
{{- define "campaign-gateway.seconds" -}}
{{- $units := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- mulf (regexFind "[0-9]+(\\.[0-9]+)?" . | float64) (get $units $unit) | ceil | int -}}
{{- end -}}

{{/* How long a stopping pod still answers: until whoever probes it as the kubelet does has seen that it is not ready. */}}
{{- define "campaign-gateway.drain" -}}
{{- $probe := .Values.probes.readiness -}}
{{- $seconds := add (mul (dig "periodSeconds" 10 $probe) (dig "failureThreshold" 3 $probe)) (dig "timeoutSeconds" 1 $probe) -}}
{{- dig "drain" (printf "%ds" $seconds) (default dict .Values.config.shutdown) -}}
{{- end -}}

{{/* Seconds that a pod may need to stop, by its settings. */}}
{{- define "campaign-gateway.shutdownSeconds" -}}
{{- $shutdown := default dict .Values.config.shutdown -}}
{{- add
  (include "campaign-gateway.seconds" (include "campaign-gateway.drain" .))
  (include "campaign-gateway.seconds" (dig "grace" "20s" $shutdown)) -}}
{{- end -}}

{{- define "campaign-gateway.terminationGracePeriodSeconds" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (include "campaign-gateway.shutdownSeconds" .) 5 -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* The ConfigMap with the settings. */}}
{{- define "campaign-gateway.configMap" -}}
{{- default (include "campaign-gateway.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{/* Each key of the settings that names a file, with the file, as JSON: of a `node` whose keys begin with `path`. */}}
{{- define "campaign-gateway.filesOf" -}}
{{- $files := dict -}}
{{- range $key, $value := .node -}}
{{- if kindIs "map" $value -}}
{{- $files = include "campaign-gateway.filesOf" (dict "node" $value "path" (printf "%s%s." $.path $key)) | fromJson | merge $files -}}
{{- else if and (kindIs "slice" $value) (hasSuffix "_file" $key) -}}
{{- range $index, $file := $value -}}
{{- $_ := set $files (printf "%s%s (%d)" $.path $key (add 1 $index)) $file -}}
{{- end -}}
{{- else if and $value (hasSuffix "_file" $key) -}}
{{- $_ := set $files (printf "%s%s" $.path $key) $value -}}
{{- end -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}

{{- define "campaign-gateway.configYaml" -}}
{{- $shutdown := merge (dict "drain" (include "campaign-gateway.drain" .)) (default dict .Values.config.shutdown) -}}
{{- toYaml (merge (dict "shutdown" $shutdown) .Values.config) -}}
{{- end -}}

{{/* What new pods are started for; pods that run use the rest without a restart (README.md, "Settings"). */}}
{{- define "campaign-gateway.configForRestart" -}}
{{- $config := include "campaign-gateway.configYaml" . | fromYaml -}}
{{- toYaml (omit $config "allow_anonymous" "budgets" "pause" "clients" "freshness" "sweep" "webhooks" "log") -}}
{{- end -}}

{{- define "campaign-gateway.secretData" -}}
{{- range $name, $content := .Values.secrets.create }}
{{ $name }}: {{ $content | b64enc }}
{{- end }}
{{- end -}}

{{/* The pod of `helm test`: its component differs from the gateway's, so Services and policies do not select it. */}}
{{- define "campaign-gateway.testLabels" -}}
{{- mergeOverwrite (include "campaign-gateway.selectorLabels" . | fromYaml) (dict "app.kubernetes.io/component" "test") | toYaml -}}
{{- end -}}

{{- /* Where a container finds the settings and what they name. */ -}}
{{- define "campaign-gateway.settingsMounts" -}}
- {name: config, mountPath: /etc/campaign-gateway, readOnly: true}
{{- if or .Values.secrets.create .Values.secrets.existing }}
- {name: secrets, mountPath: {{ include "campaign-gateway.secretsPath" . }}, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "campaign-gateway.settingsVolumes" -}}
- name: config
  configMap: {name: {{ include "campaign-gateway.configMap" . }}}
{{- if or .Values.secrets.create .Values.secrets.existing }}
- name: secrets
  projected:
    # 0440, for the pod's group only; the gateway reads a file again when it changes.
    defaultMode: 288
    sources:
      {{- if .Values.secrets.create }}
      - secret: {name: {{ include "campaign-gateway.fullname" . }}}
      {{- end }}
      {{- range .Values.secrets.existing }}
      - secret: {{- toYaml . | nindent 10 }}
      {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "campaign-gateway.doctor" -}}
name: doctor
image: {{ include "campaign-gateway.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [sh, -c]
# 3 stands for warnings, with which a gateway works.
args: ["campaign-gateway doctor --config /etc/campaign-gateway/gateway.yaml || [ $? -eq 3 ]"]
{{- with .Values.extraEnv }}
env: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts: {{- include "campaign-gateway.settingsMounts" . | nindent 2 }}
{{- end -}}
