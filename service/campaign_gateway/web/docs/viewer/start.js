"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
  // What "Try it out" shows shall be the gateway's answer, never the browser's own copy. Left to itself, a browser that
  // may not use its copy also asks the gateway for newer proof; a directive that changes nothing keeps it from that.
  requestInterceptor: (request) => {
    if (!request.loadSpec) {
      request.cache = "no-store";
      request.headers["Cache-Control"] ??= "max-stale=0";
    }
    return request;
  },
});
