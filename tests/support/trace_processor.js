// SPDX-License-Identifier: BSD-2-Clause
// Runs Perfetto's own trace processor, as compiled for the browser, in Node.js: requests of its RPC
// protocol come on standard input, replies go to standard output.
// Usage: node trace_processor.js FOLDER, which holds engine_bundle.js and trace_processor*.wasm.
"use strict";

const fs = require("fs");
const path = require("path");
const vm = require("vm");

const folder = process.argv[2];
const read = (url) => fs.readFileSync(path.join(folder, path.basename(url)));

// What the bundle, which is written for a worker of a browser, expects to find.
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = class {};
globalThis.location = { href: "file:///engine_bundle.js" };
globalThis.XMLHttpRequest = class {
  open(_method, url) {
    this.url = url;
  }
  send() {
    this.response = new Uint8Array(read(this.url)).buffer;
    this.status = 200;
  }
};
console.log = console.warn = (...words) => console.error(...words);

vm.compileFunction(read("engine_bundle.js").toString(), ["process"])(undefined);

const port = { postMessage: (reply) => fs.writeSync(1, Buffer.from(reply)) };
self.onmessage({ data: port });
// After the promises of the bundle, which end its start.
setImmediate(() => port.onmessage({ data: new Uint8Array(fs.readFileSync(0)) }));
