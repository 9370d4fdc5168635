"""Panels of a table's figures against values by hand."""

from dataclasses import replace

from table_toys import CONV, ROWS, row

from lut.panels import Point, bits_label, medians, panels


def test_panels_by_hand():
    first, second = panels(ROWS)
    assert (first.title, first.x_label) == ("conv2d 8x8 k3x3 s1x1", "input x output channels")
    assert first.lines == {
        "w4 a8>8": [Point(64, 5.0)],
        "w8 a8>8": [Point(64, 10.0), Point(128, 30.0), Point(128, 40.0), Point(256, 70.0, True)],
    }
    assert (second.title, second.x_label) == ("linear 1x1 k1x1 s1x1", "input channels, to 10")
    assert second.lines == {"w8 a8>16": [Point(32, 2.0), Point(64, 3.0)]}
    assert medians(first.lines["w8 a8>8"]) == [Point(64, 10.0), Point(128, 35.0), Point(256, 70.0)]


def test_the_largest_geometries_and_their_axes():
    sizes = {replace(CONV, height=h, c_out=c): row(1.0) for h in range(1, 9) for c in range(1, h + 2)}
    shown = panels(sizes)
    assert [panel.title.split()[1] for panel in shown] == [f"{h}x8" for h in (8, 7, 6, 5, 4, 3)]
    assert shown[0].x_label == "output channels, from 4"
    assert [point.x for point in shown[0].lines["w8 a8>8"]] == list(range(1, 10))
    depthwise = [replace(CONV, c_in=c, c_out=c, groups=c) for c in (8, 16)]
    (panel,) = panels(dict.fromkeys(depthwise, row(1.0)))
    assert (panel.title, panel.x_label) == ("conv2d 8x8 k3x3 s1x1 depthwise", "channels")
    assert [point.x for point in panel.lines["w8 a8>8"]] == [8, 16]


def test_blocks_that_differ_in_attrs_alone_share_a_panel():
    few = {replace(CONV, c_out=16 * i, attrs=f"mid={i}"): row(i) for i in (1, 2, 3)}
    (panel,) = panels(few)
    assert panel.title == "conv2d 8x8 k3x3 s1x1" and [p.x for p in panel.lines["w8 a8>8"]] == [16, 32, 48]
    many = few | {replace(CONV, c_out=c, attrs="mid=1"): row(c) for c in (5, 6, 7)}
    assert [panel.title[-5:] for panel in panels(many)] == ["mid=1", "mid=2", "mid=3"]


def test_lines_over_many_products_are_smoothed():
    points = [Point(2.0**i, float(i % 2 + 10 * (i // 4))) for i in range(48)]
    assert medians(points) == [Point(p.x, p.us) for p in points]
    line = medians(points, product=True)
    assert len(line) == 12 and line[0] == Point(3.0, 0.5), "of 1 2 4 8 and of 0 1 0 1"
    assert medians(points[:12], product=True) == medians(points[:12])


def test_titles_name_what_differs():
    specs = [CONV, replace(CONV, pad=(0, 0, 1, 1)), replace(CONV, batch=4), replace(CONV, kind="x", attrs="act=relu")]
    assert {panel.title for panel in panels(dict.fromkeys(specs, row(1.0)))} == {
        "conv2d 8x8 k3x3 s1x1 pad 1x1x1x1 batch 1",
        "conv2d 8x8 k3x3 s1x1 pad 0x0x1x1 batch 1",
        "conv2d 8x8 k3x3 s1x1 pad 1x1x1x1 batch 4",
        "x 8x8 k3x3 s1x1",
    }


def test_inputs_of_equal_bits_share_a_line():
    assert bits_label(replace(CONV, in_bits=(8, 8))) == bits_label(CONV) == "w8 a8>8"
    assert bits_label(replace(CONV, in_bits=(8, 4))) == "w8 a8+4>8"
