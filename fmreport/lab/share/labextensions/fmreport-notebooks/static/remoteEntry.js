// Jupytext can open every .py as a notebook. Here only the report's chapters are notebooks, whose names begin with two
// digits; others are of the file type "python-module", whose viewer is the editor (see default_setting_overrides.json).
// The shape of this file is webpack's module federation, by which JupyterLab loads an extension.
(window._JUPYTERLAB ??= {})["fmreport-notebooks"] = {
  init: () => {},
  get: async () => () => ({
    __esModule: true,
    default: {
      id: "fmreport-notebooks:plugin",
      description: "Only numbered Python files open as notebooks.",
      autoStart: true,
      activate: (app) => {
        app.docRegistry.addFileType({
          name: "python-module",
          displayName: "Python File",
          extensions: [".py"],
          pattern: "^(?!\\d\\d_).*\\.py$",
          mimeTypes: ["text/x-python"],
          icon: app.docRegistry.getFileType("python").icon,
        });
      },
    },
  }),
};
