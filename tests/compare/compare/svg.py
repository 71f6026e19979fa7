"""Pictures as SVG inside a page: charts by gnuplot, diagrams by hand. Colours are the page's (CSS variables), so they follow
light, dark and print."""

import html
import os
import re
import shutil
import subprocess
import tempfile

from .export import human
from .models import STEPS

ROW, LEFT, WIDTH = 30, 204, 590
BOX_WIDTH, BOX_GAP, BOX_HEIGHT = 168, 26, 182
LANES = ("guest", "KVM", "mvm", "behind it")


def text(x, y, content, cls="", anchor="start"):
    return '<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>' % (x, y, cls, anchor, html.escape(content))


def svg(width, height, title, parts):
    return ('<svg viewBox="0 0 %d %d" role="img" aria-label="%s" xmlns="http://www.w3.org/2000/svg"><title>%s</title>'
            "%s</svg>") % (width, height, html.escape(title), html.escape(title), "".join(parts))


KINDS = [key for key, *_ in STEPS] + ["peer"]  # of bars, each with a colour of the page's; a peer is another VMM
# Colours that stand for the page's own until gnuplot is done: a number for what is drawn, an outline, text and lines.
MARK = "#0102%02x"
OUTLINE, INK = len(KINDS) + 1, len(KINDS) + 2

CHART = """reset
set terminal svg size {width},{height} dynamic noenhanced font "sans-serif,13"
set output "{output}"
set border 0
unset key
unset xtics
set ytics scale 0 textcolor rgb "{ink}"
set style fill solid noborder
set lmargin at screen {left}
set rmargin at screen 0.99
set tmargin 0.2
set bmargin 0.2
set xrange [0:{most}]
set yrange [{rows}-0.5:-0.5]
$bars <<EOD
{data}
EOD
$base <<EOD
{base}
EOD
plot $bars using (0):0:(0):2:($0-.27):($0+.27):6:ytic(1) with boxxyerror lc rgb variable, \\
    $base using 1:2 with lines lc rgb "{outline}", \\
    $bars using 2:0:3:4 with xerrorbars pt -1 lw 1.5 lc rgb "{ink}", \\
    $bars using (($4 > $2 ? $4 : $2) + {gap}):0:5 with labels left textcolor rgb "{ink}"
unset output
"""


def quoted(content):
    """In gnuplot's data blocks; nothing in there is markup, but a quote would end it."""
    return '"%s"' % content.replace('"', "'").replace("\n", " ")


def chart_script(unit, rows, output):
    """rows: (label, step, summary, is the baseline). A bar to the median, a line over the middle half of the runs."""
    most = max(max(s["q3"], s["median"]) for _, _, s, _ in rows) or 1
    data, base = [], []
    for i, (label, step, s, is_base) in enumerate(rows):
        if is_base:
            length = s["median"]
            base = ["%.9g %.9g" % at for at in ((0, i - .27), (length, i - .27), (length, i + .27), (0, i + .27), (0, i - .27))]
        kind = KINDS.index(step if step in KINDS else "peer") + 1
        data.append("%s %.9g %.9g %.9g %s %d" % (quoted(label), s["median"], s["q1"], s["q3"],
                                                 quoted(human(s["median"], unit)), int(MARK[1:] % kind, 16)))
    return CHART.format(width=WIDTH, height=len(rows) * ROW + 8, output=output, left=LEFT / WIDTH, most=most * 1.28,
                        rows=len(rows), data="\n".join(data), base="\n".join(base or ["0 -9"]), gap=most * 0.02,
                        ink=MARK % INK, outline=MARK % OUTLINE)


def page_colours(picture, title):
    """gnuplot's picture with the page's classes for its colours, and nothing that two pictures of a page cannot both have."""
    picture = picture[picture.index("<svg"):]
    picture = re.sub(r"<defs>.*?</defs>|<desc>.*?</desc>|<title>.*?</title>", "", picture, flags=re.S)
    picture = re.sub(r'\s+(xmlns:xlink="[^"]*"|id="[^"]*")', "", picture)
    picture = re.sub(r"<path stroke='black'[^>]*/>|<g [^>]*>\s*</g>", "", picture)  # marks of no length, groups of nothing

    def painted(m):
        kind = int(m.group(2))
        if m.group(1) == "stroke":
            return "class='%s'" % ("whisker" if kind == INK else "outline")
        return "class='bar %s'" % KINDS[kind - 1] if kind <= len(KINDS) else ""

    picture = re.sub(r"\b(fill|stroke)\s*=\s*['\"]rgb\(\s*1,\s*2,\s*(\d+)\)['\"]", painted, picture)
    return re.sub(r"<svg\s", '<svg role="img" aria-label="%s" ' % html.escape(title), picture, count=1).replace(
        ">", "><title>%s</title>" % html.escape(title), 1).strip()


def bars(charts):
    """An SVG for each (title, unit, rows), all by one gnuplot; "" for each where there is none."""
    if not charts or not shutil.which("gnuplot"):
        return [""] * len(charts)
    with tempfile.TemporaryDirectory() as tmp:
        files = [os.path.join(tmp, "%d.svg" % i) for i in range(len(charts))]
        script = "".join(chart_script(unit, rows, file) for (_, unit, rows), file in zip(charts, files))
        done = subprocess.run(["gnuplot"], input=script, capture_output=True, text=True, check=False)
        if done.returncode or not all(map(os.path.exists, files)):
            raise SystemExit("mvm-compare: gnuplot cannot draw the charts: " + done.stderr.strip()[-300:])
        pictures = []
        for (title, _, _), file in zip(charts, files):
            with open(file, encoding="utf-8") as f:
                pictures.append(page_colours(f.read(), title))
    return pictures


def evolution(steps):
    """steps: (key, title, caption, lines of measured values, or None and why not)."""
    parts = []
    for i, (key, title, caption, measured, why) in enumerate(steps):
        x = i * (BOX_WIDTH + BOX_GAP) + 1
        parts.append('<rect x="%d" y="1" width="%d" height="%d" rx="8" class="box %s%s"/>' % (
            x, BOX_WIDTH, BOX_HEIGHT, key, "" if measured else " absent"))
        parts.append(text(x + BOX_WIDTH / 2, 24, title, "title", "middle"))
        for n, line in enumerate(wrap(caption, 23)):
            parts.append(text(x + BOX_WIDTH / 2, 42 + 14 * n, line, "small", "middle"))
        for n, line in enumerate((measured or wrap(why, 24))[:6]):
            parts.append(text(x + BOX_WIDTH / 2, 96 + 15 * n, line, "value" if measured else "small", "middle"))
        if i:
            parts.append('<path d="M%d %dh%d" class="arrow" marker-end="url(#head)"/>' % (
                x - BOX_GAP + 3, BOX_HEIGHT / 2, BOX_GAP - 9))
    return svg(len(steps) * (BOX_WIDTH + BOX_GAP) - BOX_GAP + 2, BOX_HEIGHT + 2,
               "The steps of the evolution, with what was measured", [HEAD] + parts)


HEAD = ('<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" class="headfill"/></marker></defs>')


def wrap(content, width):
    lines = [""]
    for word in content.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = (lines[-1] + " " + word).strip()
    return lines


def count(value):
    return "%.0f ×" % value if value >= 10 else "%.2g ×" % value


def path(title, server, arrows):
    """
    Who did what for one operation. server: who moves the data ("mvm's thread", "hardware" …). arrows: (from lane, to
    lane, how many, words); what is none is drawn faintly, for it is what a model saves.
    """
    lane = 180
    names = LANES[:3] + (server,)
    height = 46 + 34 * len(arrows)
    parts = [HEAD]
    for i, name in enumerate(names):
        x = 90 + i * lane
        parts.append('<rect x="%d" y="2" width="150" height="26" rx="5" class="lane l%d"/>' % (x - 75, i))
        parts.append(text(x, 20, name, "title", "middle"))
        parts.append('<path d="M%d 28V%d" class="life"/>' % (x, height))
    for n, (source, target, many, words) in enumerate(arrows):
        y = 60 + 34 * n
        a, b = 90 + source * lane, 90 + target * lane
        faint = "" if many else " none"
        parts.append('<path d="M%d %dH%d" class="arrow%s" marker-end="url(#head)"/>' % (
            a, y, b + (-3 if b > a else 3), faint))
        parts.append(text((a + b) / 2, y - 5, "%s %s" % (count(many) if many else "no", words), "small" + faint, "middle"))
    return svg(90 + 3 * lane + 100, height + 4, title, parts)
