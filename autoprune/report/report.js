(async () => {
  const element = id => document.getElementById(id);
  const packed = Uint8Array.from(atob(element("plotly").textContent), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const library = document.createElement("script");
  library.textContent = await new Response(stream).text();
  document.head.append(library);

  const figures = JSON.parse(element("figures").textContent);
  const coarse = matchMedia("(pointer: coarse)").matches;
  // "@accent" in a figure is the CSS variable --accent, so that plots follow the page's theme
  const themed = (value, style) => {
    if (typeof value === "string") return value[0] === "@" ? style.getPropertyValue("--" + value.slice(1)).trim() || value : value;
    if (Array.isArray(value)) return value.map(item => themed(item, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
  };
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    for (const [id, figure] of Object.entries(figures)) {
      const { data, layout } = themed(figure, style);
      const place = element(id);
      if (figure.height) place.style.height = figure.height + "px";
      if (figure.width) place.style.minWidth = figure.width + "px";
      Plotly.react(place, data, { ...layout, dragmode: coarse ? false : "zoom" }, { responsive: true, displayModeBar: false });
    }
  };
  const printing = on => { document.documentElement.classList.toggle("printing", on); draw(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => printing(true));
  addEventListener("afterprint", () => printing(false));
  draw();
  document.documentElement.dataset.plots = document.querySelectorAll(".plot .main-svg").length ? "drawn" : "missing";
})();
