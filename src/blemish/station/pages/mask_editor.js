// An image with its heat map, and a mask that is painted and erased with brush and polygon, by mouse, pen or finger.
const READ = { willReadFrequently: true };  // strokes are undone and sent from its pixels

export default {
  template: `
    <div class="mask-editor" style="position:relative; overflow:hidden; touch-action:none; user-select:none; line-height:0"
      @wheel.prevent="wheel" @contextmenu.prevent>
     <div ref="sheet" :style="sheetStyle">
      <img ref="image" :src="source" alt="" @load="fit" @error="$emit('problem')" draggable="false" style="width:100%; border-radius:6px"/>
      <img v-if="heat" v-show="heatShown" :src="heat" alt="" draggable="false" :style="heatStyle"/>
      <canvas ref="mask" :style="layer + '; opacity:.55'"></canvas>
      <img v-if="proposal" :src="proposal" alt="" draggable="false" :style="layer + '; opacity:.4; pointer-events:none'"/>
      <canvas ref="top" :style="layer + '; cursor:' + (tool === 'move' ? 'grab' : 'crosshair')" @pointerdown="down" @pointermove="move" @pointerup="up"
        @pointercancel="up" @pointerleave="leave" @dblclick="closePolygon"></canvas>
     </div>
    </div>`,
  props: { source: String, mask: String, heat: String, tool: String, size: Number, heatShown: Boolean, maskShown: Boolean,
    coloured: Boolean, colour: String, proposal: String },
  data() {
    return {
      layer: "position:absolute; inset:0; width:100%; height:100%",
      past: [], forgotten: false, polygon: [], last: null, cursor: null, changed: false, corner: null,
      zoomed: 1, offset: [0, 0], panned: null, dragged: null,
    };
  },
  computed: {
    sheetStyle() {
      const [x, y] = this.offset;
      return `position:relative; transform-origin:0 0; transform:translate(${x}px,${y}px) scale(${this.zoomed})`;
    },
    heatStyle() {
      return this.layer + "; opacity:.55; pointer-events:none; border-radius:6px";
    },
  },
  watch: {
    tool() { if (this.tool !== "move") this.polygon = []; this.paintTop(); },
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
        const context = this.$refs.mask.getContext("2d", READ);
        context.imageSmoothingEnabled = !this.coloured;
        context.drawImage(found, 0, 0, width, height);
        if (this.coloured) return this.$emit("ready");
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
    // Zoom by a factor around a point of the window; the picture always fills its frame.
    zoom(factor, x, y) {
      const box = this.$el.getBoundingClientRect();
      const [px, py] = [(x ?? box.left + box.width / 2) - box.left, (y ?? box.top + box.height / 2) - box.top];
      const zoomed = Math.min(32, Math.max(1, this.zoomed * factor)), by = zoomed / this.zoomed;
      this.zoomed = zoomed;
      this.shift([px - (px - this.offset[0]) * by, py - (py - this.offset[1]) * by]);
    },
    shift([x, y]) {
      const { clientWidth: width, clientHeight: height } = this.$el;
      const inside = (value, side) => Math.min(0, Math.max(side * (1 - this.zoomed), value));
      this.offset = [inside(x, width), inside(y, height)];
      this.$nextTick(() => this.paintTop());
    },
    wheel(event) { this.zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY); },
    whole() { this.zoomed = 1; this.shift([0, 0]); },
    // Pixels of the canvas in one pixel of the window.
    grain() { return this.$refs.top.width / this.$refs.top.getBoundingClientRect().width; },
    radius() { return Math.max(0.5, this.size / 2); },
    remember() {
      const { width, height } = this.$refs.mask;
      this.past.push([this.$refs.mask.getContext("2d", READ).getImageData(0, 0, width, height), this.polygon]);
      const kept = Math.min(20, Math.max(3, Math.floor(3e8 / (4 * width * height))));  // at most 300 MB
      if (this.past.length > kept) { this.past.shift(); this.forgotten = true; }
    },
    down(event) {
      if (!this.$refs.image.naturalWidth) return;  // nothing is painted on a picture that did not arrive
      this.$refs.top.setPointerCapture(event.pointerId);
      const point = this.at(event);
      if (this.tool === "move" || event.button > 0) {
        this.panned = [event.clientX - this.offset[0], event.clientY - this.offset[1]];
      } else if (this.tool === "box") {
        this.corner = point;
      } else if (this.tool === "point" || this.tool === "class") {
        this.$emit(this.tool, this.shares(point));
      } else if (this.tool === "polygon") {
        const near = ([x, y]) => Math.hypot(point[0] - x, point[1] - y) < 10 * this.grain();
        const index = this.polygon.findIndex(near);
        if (index < 0) this.polygon.push(point);
        else this.dragged = { index, start: point, moved: false };
      } else {
        this.remember();
        this.last = point;
        this.stroke(point);
      }
      this.paintTop();
    },
    move(event) {
      this.cursor = this.at(event);
      if (this.panned) this.shift([event.clientX - this.panned[0], event.clientY - this.panned[1]]);
      if (this.dragged) {
        const [x, y] = this.dragged.start;
        this.dragged.moved ||= Math.hypot(this.cursor[0] - x, this.cursor[1] - y) > 3 * this.grain();
        if (this.dragged.moved) this.polygon[this.dragged.index] = this.cursor;
      }
      if (this.last) this.stroke(this.cursor);
      this.paintTop();
    },
    up() {
      if (this.last) this.done();
      if (this.corner && this.cursor) this.$emit("box", [...this.shares(this.corner), ...this.shares(this.cursor)]);
      this.corner = null;
      const { index, moved } = this.dragged || {};
      if (index === 0 && !moved && this.polygon.length > 2) this.closePolygon();
      this.last = this.panned = this.dragged = null;
      this.paintTop();
    },
    shares([x, y]) { return [x / this.$refs.top.width, y / this.$refs.top.height]; },
    // Draw another picture over the mask, such as pixels that the station found.
    add(source) {
      return new Promise((resolve) => {
        const found = new Image();
        found.onload = () => {
          const { width, height } = this.$refs.mask, context = this.$refs.mask.getContext("2d", READ);
          this.remember();
          context.imageSmoothingEnabled = false;
          context.drawImage(found, 0, 0, width, height);
          this.done();
          resolve(true);
        };
        found.onerror = () => resolve(false);
        found.src = source;
      });
    },
    leave() { this.cursor = null; this.paintTop(); },
    paint(draw) {
      const context = this.$refs.mask.getContext("2d", READ);
      context.save();
      context.globalCompositeOperation = this.tool === "erase" ? "destination-out" : "source-over";
      context.strokeStyle = context.fillStyle = this.colour;
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
        const [pixels, polygon] = this.past.pop();
        this.$refs.mask.getContext("2d", READ).putImageData(pixels, 0, 0);
        if (this.tool === "polygon") this.polygon = polygon;  // its points can be moved again
        if (!this.past.length && !this.forgotten) { this.changed = false; }
      }
      this.paintTop();
    },
    clear() {
      this.remember();
      this.$refs.mask.getContext("2d", READ).clearRect(0, 0, this.$refs.mask.width, this.$refs.mask.height);
      this.done();
    },
    paintTop() {
      const context = this.$refs.top.getContext("2d");
      const { width, height } = this.$refs.top;
      const line = Math.max(this.zoomed > 1 ? 0.1 : 1, this.grain());
      context.clearRect(0, 0, width, height);
      context.lineWidth = 1.5 * line;
      context.strokeStyle = "#38bdf8";
      if (this.tool === "polygon") {
        context.beginPath();
        this.polygon.forEach((point) => context.lineTo(...point));
        if (this.cursor && this.polygon.length) context.lineTo(...this.cursor);
        context.stroke();
        context.fillStyle = "#38bdf8";
        for (const [x, y] of this.polygon) context.fillRect(x - 3 * line, y - 3 * line, 6 * line, 6 * line);
      } else if (["box", "point", "class"].includes(this.tool)) {
        if (this.corner && this.cursor) {
          const [x, y] = this.corner;
          context.strokeRect(x, y, this.cursor[0] - x, this.cursor[1] - y);
        }
      } else if (this.cursor && this.tool !== "move") {
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
      const pixels = this.$refs.mask.getContext("2d", READ).getImageData(0, 0, width, height);
      for (let i = 0; i < pixels.data.length; i += 4) {
        const value = pixels.data[i + 3] > 127 ? 255 : 0;
        pixels.data.set([value, value, value, 255], i);
      }
      context.putImageData(pixels, 0, 0);
      return copy.toDataURL("image/png").split(",")[1];
    },
  },
};
