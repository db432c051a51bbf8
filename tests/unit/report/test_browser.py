"""The page in a real browser, in light and dark, on a desk and on a phone: nothing fails, is cut or cannot be read."""

from __future__ import annotations

import pytest

from tests.browser import browse

pytestmark = pytest.mark.slow
LEGIBLE = 4.5
"""Contrast that the WCAG 2 ask of text at level AA."""
SCRIPT = """
const images = [...page.querySelectorAll("img")];
await Promise.all(images.map(image => image.decode()));
const view = page.defaultView, root = page.documentElement;
const channels = text => text.match(/[\\d.]+/g).map(Number);
const luminance = text => {
  const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = channels(text).slice(0, 3).map(c => linear(c / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const background = element => {
  for (let each = element; each; each = each.parentElement) {
    const colour = view.getComputedStyle(each).backgroundColor;
    if ((channels(colour)[3] ?? 1) > 0) return colour;
  }
};
const contrast = element => {
  const pair = [luminance(view.getComputedStyle(element).color), luminance(background(element))].sort((a, b) => b - a);
  return (pair[0] + 0.05) / (pair[1] + 0.05);
};
const scrolls = element => element.closest(".wide, pre") !== null;
const text = [...page.querySelectorAll("h1, h2, p, td, th, dt, dd, a, figcaption, pre, summary")];
const cut = [...text, ...images].filter(element => !scrolls(element)).filter(element => {
  const box = element.getBoundingClientRect();
  const overflows = element.tagName != "A" && element.scrollWidth > element.clientWidth + 1;
  return overflows || box.right > root.clientWidth + 1 || box.left < -1;
});
return {
  dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
  body: luminance(view.getComputedStyle(page.body).backgroundColor),
  images: images.map(image => image.naturalWidth), widest: Math.max(...images.map(image => image.getBoundingClientRect().width)),
  overflow: root.scrollWidth - root.clientWidth, cut: cut.map(element => element.outerHTML.slice(0, 200)),
  contrast: Math.min(...text.map(contrast)), scripts: page.scripts.length,
  top: page.querySelector("dl").innerText,
};
"""


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (1400, True), (360, False), (360, True)])
def test_the_page_can_be_read_on_a_desk_and_on_a_phone_in_light_and_dark(written, width, dark):
    seen = browse(written, "results.html", SCRIPT, width=width, dark=dark)
    assert seen["dark"] is dark
    assert (seen["body"] < 0.05) is dark
    assert min(seen["images"]) > 100
    assert seen["widest"] <= width
    assert seen["overflow"] <= 0
    assert seen["cut"] == []
    assert seen["contrast"] >= LEGIBLE
    assert seen["scripts"] == 0
    assert "configuration" in seen["top"]
    assert seen["loaded"] == []
