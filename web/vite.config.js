// Builds the GraphiQL page into the server's package; page.py reads it from there.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, gzipSync } from "node:zlib";

import { defineConfig } from "vite";

const COMPRESSIBLE = /\.(css|html|js|svg|ttf)$/;

// Compressed once here at the best level, so that the server never spends its event loop on it.
const gzipped = {
  name: "gzip-beside-each-file",
  writeBundle({ dir }, bundle) {
    for (const name of Object.keys(bundle).filter((name) => COMPRESSIBLE.test(name))) {
      const file = join(dir, name);
      writeFileSync(`${file}.gz`, gzipSync(readFileSync(file), { level: constants.Z_BEST_COMPRESSION }));
    }
  },
};

export default defineConfig({
  base: "/graphiql/",
  plugins: [gzipped],
  esbuild: { jsx: "automatic" },
  // As modules the workers may share and defer their parts; the older format would need all of it in one file.
  worker: { format: "es" },
  build: {
    outDir: "../src/taskgraph/server/graphiql",
    emptyOutDir: true,
    target: "es2022",
    // The policy of page.py allows fonts and images as files only; inlined ones would need data: addresses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Monaco, the editor, is one lazy chunk of 3 MB, and splitting it would only add requests.
    chunkSizeWarningLimit: 4000,
    rollupOptions: {
      onwarn(warning, warn) {
        // "use client" marks parts for servers that render React; a page without one has no use for it.
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning);
      },
    },
  },
});
