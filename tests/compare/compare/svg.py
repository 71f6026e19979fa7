"""Pictures as SVG inside a page. Colours are the page's (CSS variables), so they follow light, dark and print."""

import html

from .export import human

ROW, BAR, LEFT, RIGHT, WIDTH = 30, 16, 204, 84, 590
BOX_WIDTH, BOX_GAP, BOX_HEIGHT = 168, 26, 166
LANES = ("guest", "KVM", "mvm", "behind it")


def text(x, y, content, cls="", anchor="start"):
    return '<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>' % (x, y, cls, anchor, html.escape(content))


def svg(width, height, title, parts):
    return ('<svg viewBox="0 0 %d %d" role="img" aria-label="%s" xmlns="http://www.w3.org/2000/svg"><title>%s</title>'
            "%s</svg>") % (width, height, html.escape(title), html.escape(title), "".join(parts))


def bars(title, unit, rows):
    """rows: (label, step, summary, is the baseline). A bar to the median, a line over the middle half of the runs."""
    most = max(max(s["q3"], s["median"]) for _, _, s, _ in rows) or 1
    scale = (WIDTH - LEFT - RIGHT) / most
    parts = []
    for i, (label, step, s, base) in enumerate(rows):
        y = i * ROW + 6
        length = max(s["median"] * scale, 1)
        parts.append(text(LEFT - 8, y + BAR - 3, label, "label", "end"))
        parts.append('<rect x="%d" y="%d" width="%.1f" height="%d" class="bar %s%s"/>' % (
            LEFT, y, length, BAR, html.escape(step or ""), " base" if base else ""))
        low, high, middle = LEFT + s["q1"] * scale, LEFT + s["q3"] * scale, y + BAR / 2
        parts.append('<path d="M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8" class="whisker"/>' % (
            low, middle, high, low, middle - 4, high, middle - 4))
        parts.append(text(LEFT + max(length, s["q3"] * scale) + 8, y + BAR - 3, human(s["median"], unit), "value"))
    return svg(WIDTH, len(rows) * ROW + 8, title, parts)


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
        for n, line in enumerate((measured or wrap(why, 24))[:5]):
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
