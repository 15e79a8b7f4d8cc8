"use strict";

// The same by HEAD, or with a stream in the path: most of the operations, which few look for.
const FOLDED = "The same by HEAD, or for a stream by its name";
const isTwin = (operation) => operation.get("method") === "head" || operation.get("path").startsWith("/v1/streams/");

const foldTwins = (select) => (...parts) => {
  const tagged = select(...parts);
  const twins = tagged.toList().flatMap((group) => group.get("operations").filter(isTwin));
  if (twins.isEmpty()) {
    return tagged;
  }
  const rest = tagged
    .map((group) => group.update("operations", (operations) => operations.filterNot(isTwin)))
    .filterNot((group) => group.get("operations").isEmpty());
  const details = tagged.first().get("tagDetails").merge({ name: FOLDED, description: "" });
  return rest.set(FOLDED, tagged.first().merge({ operations: twins, tagDetails: details }));
};

const dark = matchMedia("(prefers-color-scheme: dark)");
const shade = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", shade);
shade();

const viewer = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
  plugins: [() => ({ statePlugins: { spec: { wrapSelectors: { taggedOperations: foldTwins } } } })],
  onComplete: () => viewer.layoutActions.show(["operations-tag", FOLDED], false),
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
