"""How the page looks: on a wide screen and a narrow one, in the light, in the dark, on paper."""

__all__ = ["CSS"]

CSS = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #ffffff; --ink: #1c2430; --faint: #5b6675; --line: #dde2e9;
  --accent: #0072b2; --accent-soft: #cfe3f1; --rest: #9aa0a6; --good: #0a7d55;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181e; --card: #1d232b; --ink: #e6eaf0; --faint: #a0abb9; --line: #343d49;
    --accent: #56b4e9; --accent-soft: #2b475c; --rest: #7b838c; --good: #4cc795;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main, header, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
footer { padding-bottom: 3rem; color: var(--faint); font-size: .875rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
h1, h2, .lead, figcaption, li { overflow-wrap: anywhere; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.lead, figcaption, caption, .aside { color: var(--faint); }
.card, .scroll, details, figure, .tiles > div {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
}
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0;
}
.tiles > div { padding: .8rem 1rem; }
.tiles dt { color: var(--faint); font-size: .8125rem; }
.tiles dd { margin: 0; font-size: 1.6rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.tiles dd small { display: block; font-size: .8125rem; font-weight: 400; color: var(--faint); }
.scroll { overflow-x: auto; margin: .75rem 0 1.25rem; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
caption { text-align: left; padding: .7rem .9rem .3rem; }
th, td { padding: .38rem .9rem; text-align: right; border-top: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; }
thead th { border-top: 0; color: var(--faint); font-weight: 600; vertical-align: bottom;
  white-space: nowrap; }
th.text, td.text { text-align: left; }
tbody th { text-align: left; font-weight: 500; min-width: 6rem; }
tbody th, td.text { max-width: 24rem; overflow-wrap: break-word; }
td.number { white-space: nowrap; }
tr.frozen th, tr.frozen td { color: var(--faint); }
.bar { display: block; width: 100%; min-width: 5rem; height: .34rem; margin-top: .18rem;
  border-radius: .2rem; background: var(--accent-soft); overflow: hidden; }
.bar > span { display: block; height: 100%; background: var(--accent); }
tr.frozen .bar > span { background: var(--rest); }
figure { margin: .75rem 0 1.5rem; padding: 0; overflow: hidden; }
/* The plots are drawn on white, so that they are the same in the dark and on paper. */
figure > div { background: #ffffff; padding: .75rem; overflow-x: auto; text-align: center; }
figure img { max-width: 100%; height: auto; }
figure.tall img { max-width: none; }
figcaption { padding: .6rem .9rem; font-size: .875rem; border-top: 1px solid var(--line); }
details { margin: .75rem 0 1.25rem; padding: .6rem .9rem; }
details > summary { cursor: pointer; font-weight: 600; }
details[open] > summary { margin-bottom: .5rem; }
details .scroll, details figure { border: 0; margin: 0; }
pre, code { font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .75rem .9rem; overflow: auto; max-height: 24rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
details pre { border: 0; padding: 0; margin: 0; }
ul { padding-left: 1.2rem; }
@media (max-width: 40rem) {
  main, header, footer { padding-left: .85rem; padding-right: .85rem; }
  th, td { padding: .35rem .6rem; }
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .tiles dd { font-size: 1.3rem; }
  figure:not(.tall) img { min-width: 34rem; }
}
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #000; --faint: #444; --line: #bbb;
    --accent: #0072b2; --accent-soft: #cfe3f1; --rest: #9aa0a6; }
  body { font-size: 10.5pt; }
  main, header, footer { max-width: none; padding: 0; }
  figure:not(.tall), tr, .tiles { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll, figure > div, pre { overflow: visible; max-height: none; }
  figure img, figure.tall img { max-width: 100%; min-width: 0; }
  .bar { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
