// Node.js wants the extension in an import, and the generator finds no tsconfig from where it is installed.
export default { input: "openapi.json", output: { path: "sdk", module: { extension: ".js" } } };
