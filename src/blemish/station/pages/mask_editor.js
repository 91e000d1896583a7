// An image with its heat map, and a mask that is painted and erased with brush and polygon, by mouse, pen or finger.
export default {
  template: `
    <div class="mask-editor" style="position:relative; touch-action:none; user-select:none; line-height:0">
      <img ref="image" :src="source" @load="fit" @error="$emit('problem')" draggable="false" style="width:100%; border-radius:6px"/>
      <img v-if="heat" v-show="heatShown" :src="heat" draggable="false" :style="heatStyle"/>
      <canvas ref="mask" :style="layer + '; opacity:.55'"></canvas>
      <canvas ref="top" :style="layer + '; cursor:crosshair'" @pointerdown="down" @pointermove="move" @pointerup="up"
        @pointercancel="up" @pointerleave="leave" @dblclick="closePolygon"></canvas>
    </div>`,
  props: { source: String, mask: String, heat: String, tool: String, size: Number, heatShown: Boolean, maskShown: Boolean },
  data() {
    return {
      layer: "position:absolute; inset:0; width:100%; height:100%",
      past: [], forgotten: false, polygon: [], last: null, cursor: null, changed: false,
    };
  },
  computed: {
    heatStyle() {
      return this.layer + "; opacity:.55; pointer-events:none; border-radius:6px";
    },
  },
  watch: {
    tool() { this.polygon = []; this.paintTop(); },
    size() { this.paintTop(); },
    maskShown() { this.$refs.mask.style.visibility = this.maskShown ? "visible" : "hidden"; },
  },
  mounted() { if (this.$refs.image.complete && this.$refs.image.naturalWidth) this.fit(); },
  methods: {
    fit() {
      const { naturalWidth: width, naturalHeight: height } = this.$refs.image;
      this.$el.style.maxWidth = `calc(72vh * ${width / height})`;
      for (const name of ["mask", "top"]) Object.assign(this.$refs[name], { width, height });
      const found = new Image();
      found.onload = () => {
        const context = this.$refs.mask.getContext("2d");
        context.drawImage(found, 0, 0, width, height);
        const pixels = context.getImageData(0, 0, width, height);
        for (let i = 0; i < pixels.data.length; i += 4) {
          const inside = pixels.data[i] > 127;
          pixels.data.set([225, 29, 72, inside ? 255 : 0], i);
        }
        context.putImageData(pixels, 0, 0);
        this.$emit("ready");
      };
      found.onerror = () => this.$emit("ready");
      found.src = this.mask;
    },
    at(event) {
      const box = this.$refs.top.getBoundingClientRect();
      const scale = this.$refs.top.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    },
    radius() { return Math.max(0.5, this.size / 2); },
    remember() {
      const { width, height } = this.$refs.mask;
      this.past.push(this.$refs.mask.getContext("2d").getImageData(0, 0, width, height));
      if (this.past.length > 20) { this.past.shift(); this.forgotten = true; }
    },
    down(event) {
      this.$refs.top.setPointerCapture(event.pointerId);
      const point = this.at(event);
      if (this.tool === "polygon") {
        const [x, y] = this.polygon[0] || [Infinity, Infinity];
        const near = 10 * this.$refs.top.width / this.$refs.top.clientWidth;
        if (this.polygon.length > 2 && Math.hypot(point[0] - x, point[1] - y) < near) this.closePolygon();
        else this.polygon.push(point);
      } else {
        this.remember();
        this.last = point;
        this.stroke(point);
      }
      this.paintTop();
    },
    move(event) {
      this.cursor = this.at(event);
      if (this.last) this.stroke(this.cursor);
      this.paintTop();
    },
    up() { if (this.last) this.done(); this.last = null; },
    leave() { this.cursor = null; this.paintTop(); },
    paint(draw) {
      const context = this.$refs.mask.getContext("2d");
      context.save();
      context.globalCompositeOperation = this.tool === "erase" ? "destination-out" : "source-over";
      context.strokeStyle = context.fillStyle = "rgb(225,29,72)";
      draw(context);
      context.restore();
    },
    stroke(point) {
      this.paint((context) => {
        context.lineWidth = 2 * this.radius();
        context.lineCap = context.lineJoin = "round";
        context.beginPath();
        context.moveTo(...this.last);
        context.lineTo(point[0] + 0.01, point[1]);
        context.stroke();
      });
      this.last = point;
    },
    closePolygon() {
      if (this.polygon.length > 2) {
        this.remember();
        this.paint((context) => {
          context.beginPath();
          this.polygon.forEach((point) => context.lineTo(...point));
          context.fill();
        });
        this.done();
      }
      this.polygon = [];
      this.paintTop();
    },
    done() { this.changed = true; },
    undo() {
      if (this.polygon.length) this.polygon.pop();
      else if (this.past.length) {
        this.$refs.mask.getContext("2d").putImageData(this.past.pop(), 0, 0);
        if (!this.past.length && !this.forgotten) { this.changed = false; }
      }
      this.paintTop();
    },
    clear() {
      this.remember();
      this.$refs.mask.getContext("2d").clearRect(0, 0, this.$refs.mask.width, this.$refs.mask.height);
      this.done();
    },
    paintTop() {
      const context = this.$refs.top.getContext("2d");
      const { width, height } = this.$refs.top;
      const line = Math.max(1, width / this.$refs.top.clientWidth);
      context.clearRect(0, 0, width, height);
      context.lineWidth = 1.5 * line;
      context.strokeStyle = "#38bdf8";
      if (this.tool === "polygon") {
        context.beginPath();
        this.polygon.forEach((point) => context.lineTo(...point));
        if (this.cursor && this.polygon.length) context.lineTo(...this.cursor);
        context.stroke();
        context.fillStyle = "#38bdf8";
        for (const [x, y] of this.polygon) context.fillRect(x - 2 * line, y - 2 * line, 4 * line, 4 * line);
      } else if (this.cursor) {
        context.beginPath();
        context.arc(...this.cursor, this.radius(), 0, 7);
        context.stroke();
      }
    },
    // The mask as a PNG in base64, white on black; null where nobody changed it.
    png() {
      if (!this.changed) return null;
      const { width, height } = this.$refs.mask;
      const copy = Object.assign(document.createElement("canvas"), { width, height });
      const context = copy.getContext("2d");
      const pixels = this.$refs.mask.getContext("2d").getImageData(0, 0, width, height);
      for (let i = 0; i < pixels.data.length; i += 4) {
        const value = pixels.data[i + 3] > 127 ? 255 : 0;
        pixels.data.set([value, value, value, 255], i);
      }
      context.putImageData(pixels, 0, 0);
      return copy.toDataURL("image/png").split(",")[1];
    },
  },
};
