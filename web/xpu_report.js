// Shows the text of an XPU Report in its node.
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

app.registerExtension({
  name: "comfyui-ipex.xpu-report",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "IpexXpuReport") return;
    const created = nodeType.prototype.onNodeCreated;
    nodeType.prototype.onNodeCreated = function (...given) {
      created?.apply(this, given);
      const spec = ["STRING", { multiline: true }];
      const { widget } = ComfyWidgets.STRING(this, "text", spec, app);
      widget.options.read_only = true;
      if (widget.inputEl) widget.inputEl.readOnly = true;
      // The text belongs to a run: neither saved with a workflow nor sent with a prompt.
      widget.serialize = false;
      widget.options.serialize = false;
      this.ipexReport = widget;
    };
    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      executed?.call(this, output);
      if (output?.text) this.ipexReport.value = output.text.join("");
    };
  },
});
