"""How the demo looks. System fonts and inline styles only: nothing is fetched from anywhere."""

import html

import gradio as gr
from gradio.themes.utils.fonts import Font

from serve.card import Card

THEME = gr.themes.Default(
    primary_hue="teal",
    neutral_hue="slate",
    radius_size="md",
    font=[Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")],
    font_mono=[Font(name) for name in ("ui-monospace", "Menlo", "Consolas", "monospace")],
)

CSS = """
.gradio-container { width: 100% !important; max-width: 1240px !important; margin: 0 auto !important; }
#palette, footer .divider { display: none; }
.gradio-container:not(:has(table.legend)) #downloads { display: none; }
#title h1 { font-size: 1.35rem; font-weight: 650; margin: 0; }
#title p, .hint { color: var(--body-text-color-subdued); margin: .25rem 0; font-size: .9rem; }
i { display: inline-block; width: .85em; height: .85em; border-radius: 3px; margin-right: .5em;
    box-shadow: 0 0 0 1px rgb(128 128 128 / .5); vertical-align: -.05em; flex: none; }
table.legend, table.facts { width: 100%; border-collapse: collapse; border: 0 !important; font-size: .92rem; }
table.legend th, table.legend td, table.facts th, table.facts td {
    padding: .28rem .5rem; text-align: left; border: 0;
    border-bottom: 1px solid var(--border-color-primary); }
table.legend td, table.legend th:nth-child(n+3) { text-align: right; font-variant-numeric: tabular-nums;
    white-space: nowrap; }
table.legend :is(thead, tbody, tr), table.facts :is(tbody, tr) { border: 0 !important; }
table.legend thead th, table.facts th { font-weight: 500; color: var(--body-text-color-subdued); }
table.legend tbody th { font-weight: 500; white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
    max-width: 40vw; }
table.legend th i { margin-right: .4em; }
table.legend td.bar { width: 38%; }
table.legend td.bar b { display: block; height: .6em; border-radius: 3px; min-width: 2px;
    box-shadow: 0 0 0 1px rgb(128 128 128 / .35); }
table.legend td.bias { width: 50%; position: relative; }
table.legend td.bias::before { content: ""; position: absolute; inset: 0 auto 0 50%;
    border-left: 1px solid var(--body-text-color-subdued); }
table.legend td.bias b { position: absolute; top: .62em; height: .6em; border-radius: 3px; }
table.legend tr.off { opacity: .4; }
table.facts th { width: 11rem; vertical-align: top; }
.more { color: #0f766e; font-weight: 600; } .less { color: #b45309; font-weight: 600; }
.dark .more { color: #5eead4; } .dark .less { color: #fbbf24; } .same { opacity: .5; }
.card h3 { margin: 1.2rem 0 .4rem; font-size: 1rem; }
ul.sentences { margin: .2rem 0; padding-left: 1.2rem; }
#video .video-container { display: flex; flex-direction: column; }
#video .video-container > .wrap { height: auto !important; flex: 1 1 0; min-height: 0; }
ul.classes { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; list-style: none; padding: 0; margin: 0; }
ul.classes li { margin: 0; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .8rem; }
.curves figure { margin: 0; } .curves figcaption { font-size: .85rem; text-align: center; }
.curves svg { width: 100%; height: 90px; display: block; background: var(--background-fill-secondary);
    border-radius: 6px; }
.curves line { stroke: currentColor; opacity: .35; vector-effect: non-scaling-stroke; }
.curves polyline { fill: none; stroke-width: 2.5; vector-effect: non-scaling-stroke; }
.curves polyline.under { stroke: currentColor; stroke-width: 4; opacity: .25; }
.gallery-item img { height: 72px !important; object-fit: cover; }
#classes label { padding: .3rem .6rem; border-left-width: 6px; }
:focus-visible { outline: 3px solid var(--primary-500) !important; outline-offset: 2px; }
@media (max-width: 640px) {
    .gradio-container { padding: .5rem !important; }
    #image-row > .column, #image-row .form { display: contents; }  /* one column, in the order of a visit */
    #image-row > * > *, #image-row > *, #image-row .form > * { order: 6; }
    #image-row #picture { order: 1; height: 170px !important; } #image-row #result { order: 2; }
    #image-row #tau { order: 3; position: sticky; bottom: 0; z-index: 2; }  /* what it changes is above it */
    #image-row #legend { order: 4; } #image-row #downloads { order: 5; flex-direction: row; }
    #image-row #picture .or { display: none; }
    #image-row .form > * { border: 1px solid var(--border-color-primary); border-radius: 6px; }
    #title p { display: none; } #model { padding: .4rem .7rem; }
    table.legend td.bar { width: 16%; }
    table.legend th, table.legend td { padding: .28rem .3rem; }
    table.facts th { width: 7rem; }
    .curves { grid-template-columns: 1fr 1fr; }
}
"""

# Gradio's before/after handle takes a mouse only; this gives it a place in the Tab order and the arrow keys.
SCRIPT = """
() => {
    const name = handle => Object.entries({
        role: 'slider', tabindex: '0', 'aria-label': 'Before and after: move with the arrow keys',
        'aria-orientation': 'horizontal', 'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-valuenow': '50',
    }).forEach(([key, value]) => handle.setAttribute(key, value));
    const unnamed = '#result .slider-wrap [role=none][style*=translateX]';
    new MutationObserver(() => document.querySelectorAll(unnamed).forEach(name))
        .observe(document.body, {childList: true, subtree: true});
    document.addEventListener('keydown', event => {
        const handle = event.target.closest('#result [role=slider]');
        const direction = {ArrowLeft: -1, ArrowRight: 1}[event.key];
        if (!handle || !direction) return;
        event.preventDefault();
        const frame = handle.closest('.slider-wrap').getBoundingClientRect();
        const box = handle.getBoundingClientRect();
        const from = box.x + box.width / 2, y = box.y + box.height / 2;
        const to = Math.min(frame.right, Math.max(frame.x, from + direction * frame.width / 20));
        const mouse = (type, x, target) => target.dispatchEvent(
            new MouseEvent(type, {clientX: x, clientY: y, bubbles: true, view: window, button: 0}));
        mouse('mousedown', from, handle); mouse('mousemove', to, window); mouse('mouseup', to, window);
        handle.setAttribute('aria-valuenow', Math.round(100 * (to - frame.x) / frame.width));
    });
}
"""


def title_html(models: list[str]) -> str:
    """The head of the page."""
    return (
        f"<h1>Segmentation, balanced</h1><p>{html.escape(', '.join(models))} · drag the handle across the "
        "picture: left as the network sees it, right with its class bias corrected.</p>"
    )


def palette_html(card: Card) -> str:
    """Style that gives each class's checkbox its colour."""
    rules = (
        f"#classes label:nth-of-type({position}) {{ border-left-color: rgb{color}; }}"
        for position, color in enumerate(card.palette, 1)
    )
    return f"<style>{''.join(rules)}</style>"
