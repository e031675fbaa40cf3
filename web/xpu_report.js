// Shows what our nodes say in the nodes themselves: reports, tables, and where a component runs.
import { app } from "../../scripts/app.js";

function addText(node) {
  const spec = ["STRING", { multiline: true }];
  const { widget } = app.widgets.STRING(node, "text", spec, app);
  widget.options.read_only = true;
  if (widget.inputEl) widget.inputEl.readOnly = true;
  // The text belongs to a run: neither saved with a workflow nor sent with a prompt.
  widget.serialize = false;
  widget.options.serialize = false;
  node.ipexText = widget;
}

app.registerExtension({
  name: "comfyui-ipex.xpu-report",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("Ipex")) return;
    if (nodeData.name === "IpexXpuReport") {
      const created = nodeType.prototype.onNodeCreated;
      nodeType.prototype.onNodeCreated = function (...given) {
        created?.apply(this, given);
        addText(this);
      };
    }
    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      executed?.call(this, output);
      if (!output?.text) return;
      if (!this.ipexText) addText(this);
      this.ipexText.value = output.text.join("");
    };
  },
});
