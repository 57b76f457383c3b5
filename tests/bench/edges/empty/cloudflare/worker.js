// The module that Workers runs: it makes the instance and hands requests over.
import { fetch as respond, initSync } from "./index.js";
import module from "./index_bg.wasm";

initSync({ module });

export default {
  fetch(request, env, context) {
    return respond(request, env, context);
  },
};
