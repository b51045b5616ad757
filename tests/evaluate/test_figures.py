import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from ctssl.evaluate.figures import draw, feature_map, feature_maps, layout


def table(n, d=6, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, d)) + 8 * (np.arange(n) % 2)[:, None]
    features = pd.DataFrame(values, columns=[f"f{j:03}" for j in range(d)])
    features.insert(0, "scan", [f"s{i}" for i in range(n)])
    features.insert(1, "subject", features.scan)
    return features


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.mark.slow  # numba compiles UMAP for 12 s; the workflow tests draw one too
def test_umap_is_seeded_and_keeps_clusters_apart():
    values = table(24).filter(regex="^f0").to_numpy()
    first, kind = layout(values)
    again, _ = layout(values.copy())
    assert kind == "UMAP"
    assert first.shape == (24, 2)
    np.testing.assert_array_equal(first, again)
    assert silhouette_score(first, np.arange(24) % 2) > 0.5
    assert layout(values[:5])[0].shape == (5, 2)  # the smallest n


def test_few_scans_get_the_principal_components_of_standardised_features():
    values = table(4).filter(regex="^f0").to_numpy()
    points, kind = layout(values)
    scaled = (values - values.mean(0)) / values.std(0)
    expected = PCA(2).fit_transform(scaled)
    assert kind == "PC"
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 3), (7, 1), (2, 2)])
def test_any_shape_of_features_has_a_place_in_two_dimensions(shape):
    points, kind = layout(np.random.default_rng(0).normal(size=shape))
    assert kind == "PC"
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()


def test_numbers_get_one_colour_bar_for_all_panels():
    labels = pd.Series({f"s{i}": float(i) for i in range(4)} | {"elsewhere": 99.0})
    figure = draw([("Ours", table(4)), ("Ours w/o CE", table(3))], labels, "log FEV1")
    left, right, bar = figure.axes
    assert left.get_title().startswith("Ours (n = 4)\nprincipal components")
    assert right.get_title().startswith("Ours w/o CE (n = 3)")
    assert (left.get_xlabel(), left.get_ylabel(), left.get_aspect()) == ("PC 1", "PC 2", 1.0)
    assert bar.get_ylabel() == "log FEV1"
    norms = [axis.collections[1].norm for axis in (left, right)]
    assert [(n.vmin, n.vmax) for n in norms] == [(0, 3)] * 2
    assert list(left.collections[1].get_array()) == [0, 1, 2, 3]
    assert not figure.legends


def test_classes_get_one_legend_and_unlabelled_scans_are_grey():
    labels = pd.Series({"s0": "10", "s1": "2", "s2": "10"})
    figure = draw([("Ours", table(4))], labels, "gold")
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "gold"
    assert [text.get_text() for text in legend.get_texts()] == ["2", "10", "no label"]
    grey, coloured = figure.axes[0].collections
    assert len(grey.get_offsets()) == 1
    faces = coloured.get_facecolors()
    assert len(faces) == 3
    assert (faces[0] == faces[2]).all()
    assert (faces[0] != faces[1]).any()


def test_no_labels_no_legend():
    figure = draw([("Ours", table(4))], None, "")
    assert not figure.legends
    assert len(figure.axes) == 1
    assert len(figure.axes[0].collections[0].get_offsets()) == 4


def test_the_picture_is_a_png_at_150_dpi(tmp_path):
    feature_map(
        table(3), pd.Series({"s0": 1.0, "s1": 2.0}, name="fev1"), "Ours", tmp_path / "deep" / "one.png"
    )
    assert png_size(tmp_path / "deep" / "one.png") == (750, 630)
    feature_maps([(f"run {i}", table(3)) for i in range(5)], None, "", tmp_path / "five.png")
    assert png_size(tmp_path / "five.png") == (2505, 1260)


def test_pyplot_is_left_alone():
    from matplotlib import pyplot

    draw([("Ours", table(3))], None, "")
    assert pyplot.get_fignums() == []
