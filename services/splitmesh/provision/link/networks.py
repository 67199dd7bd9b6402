"""Owns the kinds of uplink that are made up: the states of each network and where their figures come from.

Figures are of uplinks. What a docstring gives no source for is our choice.
"""

from __future__ import annotations

from typing import Final

from splitmesh.provision.link.markov import Process, State


def lte_static() -> Process:
    """LTE where nobody moves: a good cell that is at times busy.

    Median uplink about 6 Mbit/s, round trip about 70 ms: Huang et al., "A Close Examination of Performance and Power
    Characteristics of 4G LTE Networks", MobiSys 2012. States and how long they last are our choice.
    """
    return Process(
        {
            "good": State(8e6, 30, 2.0, 18.0, {"medium": 1}, jitter_ms=4, spread=0.3),
            "medium": State(4.5e6, 35, 1.0, 9.0, {"good": 7, "busy": 3}, jitter_ms=5, spread=0.4),
            "busy": State(1.5e6, 45, 0.5, 3.5, {"medium": 1}, jitter_ms=8, spread=0.5),
        },
        down_bps=20e6,
    )


def lte_driving() -> Process:
    """LTE from a car: from cell to cell by way of the edge of each, with handovers, and now and then a tunnel.

    Rates as in `lte_static`, more widely spread. A handover between LTE cells interrupts for about 30 ms (Xu et al.,
    "Understanding Operational 5G: A First Measurement Study on Its Coverage, Performance and Energy Consumption",
    SIGCOMM 2020); with what the transport loses besides, 50 to 300 ms of dead time is our choice, as are tunnels.
    """
    return Process(
        {
            "good": State(9e6, 30, 2.0, 10.0, {"medium": 1}, jitter_ms=4, spread=0.4),
            "medium": State(4e6, 38, 1.0, 6.0, {"good": 5, "edge": 5}, jitter_ms=6, spread=0.5),
            "edge": State(0.7e6, 60, 0.5, 3.5, {"handover": 6, "medium": 3, "tunnel": 1}, jitter_ms=12, spread=0.7),
            "handover": State(0, 60, 0.05, 0.08, {"medium": 6, "good": 3, "edge": 1}),
            "tunnel": State(0, 60, 1.0, 5.0, {"edge": 1}),
        },
        down_bps=15e6,
        memory_s=0.8,
    )


def wifi_crowded() -> Process:
    """2.4 GHz WiFi among neighbours: rate adaptation up and down, bursts of contention, delay spikes.

    Rates are those of IEEE 802.11n, one stream, 20 MHz, long guard interval (MCS 1, 3, 4, 5, 7: 13, 26, 39, 52 and
    65 Mbit/s), of which 60 % are left above the medium access. That the hop through the air has a median of a few ms
    and a tail of hundreds: Sui et al., "Characterizing and Improving WiFi Latency in Large-Scale Operational
    Networks", MobiSys 2016. Lengths and the share of time lost to others are our choice.
    """
    rates = {"mcs1": 13e6, "mcs3": 26e6, "mcs4": 39e6, "mcs5": 52e6, "mcs7": 65e6}
    names = list(rates)
    states = {}
    for index, (name, bps) in enumerate(rates.items()):
        after = {"busy": 2.0, "spike": 1.0}
        if index > 0:
            after[names[index - 1]] = 3.0
        if index + 1 < len(names):
            after[names[index + 1]] = 4.0
        states[name] = State(0.6 * bps, 3, 0.1, 1.4, after, jitter_ms=2, spread=0.15)
    states["busy"] = State(2.5e6, 12, 0.1, 0.9, {"mcs3": 3, "mcs4": 4, "mcs5": 3}, jitter_ms=10, spread=0.6)
    states["spike"] = State(0, 3, 0.03, 0.07, {"mcs3": 3, "mcs4": 4, "mcs5": 3})
    return Process(states, down_bps=40e6, memory_s=0.3)


def nr_midband() -> Process:
    """5G at 3.5 GHz beside an LTE anchor (NSA), on foot.

    Uplink about 130 Mbit/s at its best; a handover between 5G cells interrupts for about 108 ms: Xu et al., SIGCOMM
    2020, as in `lte_driving`. Coverage holes in which the LTE anchor serves, and all lengths, are our choice.
    """
    return Process(
        {
            "good": State(110e6, 12, 3.0, 17.0, {"medium": 1}, jitter_ms=2, spread=0.25),
            "medium": State(45e6, 15, 1.0, 7.0, {"good": 6, "handover": 2, "leaving": 2}, jitter_ms=3, spread=0.4),
            "handover": State(0, 15, 0.08, 0.03, {"good": 1, "medium": 1}),
            "leaving": State(0, 25, 0.05, 0.05, {"anchor": 1}),
            "anchor": State(8e6, 30, 2.0, 6.0, {"entering": 1}, jitter_ms=4, spread=0.4),
            "entering": State(0, 25, 0.05, 0.05, {"medium": 1}),
        },
        down_bps=300e6,
    )


def nr_mmwave() -> Process:
    """5G at 28 or 39 GHz: very fast in sight of the mast, less than a tenth of it within 100 ms of being blocked.

    About 200 Mbit/s up: Narayanan et al., "A Variegated Look at 5G in the Wild: Performance, Power, and QoE
    Implications", SIGCOMM 2021. Unshadowed, decaying, shadowed, rising as the four states of a blockage: MacCartney,
    Rappaport and Rangan, "Rapid Fading Due to Human Blockage in Pedestrian Crowds at 5G Millimeter-Wave Frequencies",
    GLOBECOM 2017. Lengths, rates while shadowed, and the fall to the LTE anchor are our choice.
    """
    return Process(
        {
            "sight": State(180e6, 9, 0.5, 5.5, {"decay": 1}, jitter_ms=1, spread=0.2),
            "decay": State(60e6, 10, 0.06, 0.0, {"shadow": 1}, jitter_ms=2),
            "shadow": State(12e6, 14, 0.15, 0.65, {"rise": 8, "leaving": 2}, jitter_ms=6, spread=0.5),
            "rise": State(80e6, 10, 0.08, 0.0, {"sight": 1}, jitter_ms=2),
            "leaving": State(0, 25, 0.05, 0.1, {"anchor": 1}),
            "anchor": State(8e6, 30, 1.0, 4.0, {"entering": 1}, jitter_ms=4, spread=0.4),
            "entering": State(0, 25, 0.05, 0.1, {"sight": 1}),
        },
        down_bps=900e6,
        tick_s=0.05,
        memory_s=0.3,
    )


def geo() -> Process:
    """A satellite at 36 000 km: 550 to 600 ms there and back, rain that comes slowly, short drop-outs.

    Round trips from 550 ms on: Perdices et al., "When Satellite Is All You Have: Watching the Internet from 550 ms",
    IMC 2022. That rain attenuates as a slow first-order process, log-normal: Maseng and Bakken, "A Stochastic Dynamic
    Model of Rain Attenuation", IEEE Trans. Communications 1981; ITU-R P.1853. Rain passes faster here than there, in
    minutes, so that a run of ten minutes may see some. The rates are those of coding steps, our choice.
    """
    clear = {"showers": 7.0, "dropout": 3.0}
    return Process(
        {
            "clear": State(3e6, 277, 10.0, 70.0, clear, jitter_ms=6, spread=0.1, visit_delay_ms=10),
            "showers": State(1.8e6, 280, 5.0, 25.0, {"clear": 6, "rain": 4}, jitter_ms=8, spread=0.2),
            "rain": State(0.6e6, 285, 5.0, 20.0, {"showers": 7, "faded": 3}, jitter_ms=12, spread=0.3),
            "faded": State(0, 285, 0.5, 3.5, {"rain": 1}),
            "dropout": State(0, 280, 0.1, 0.3, {"clear": 1}),
        },
        down_bps=20e6,
        tick_s=0.5,
        memory_s=10.0,
    )


def leo() -> Process:
    """Satellites at 550 km: another path every 15 s, with another rate and delay, often with a short gap before it.

    About 17 Mbit/s up: Michel et al., "A First Look at Starlink Performance", IMC 2022. New paths every 15 s: Mohan
    et al., "A Multifaceted Look at Starlink Performance", WWW 2024. How far rates and delays differ between paths,
    and gaps of 100 ms, are our choice.
    """
    path = {"gap": 1.0, "change": 1.0}
    return Process(
        {
            "path": State(17e6, 16, 14.9, 0.0, path, jitter_ms=4, spread=0.2, visit_spread=0.3, visit_delay_ms=14),
            "gap": State(0, 25, 0.1, 0.0, {"path": 1}),
            "change": State(6e6, 30, 0.1, 0.0, {"path": 1}, jitter_ms=8),
        },
        down_bps=150e6,
        memory_s=2.0,
    )


NETWORKS: Final[dict[str, Process]] = {
    "lte-static": lte_static(),
    "lte-driving": lte_driving(),
    "wifi-crowded": wifi_crowded(),
    "5g-midband": nr_midband(),
    "5g-mmwave": nr_mmwave(),
    "geo": geo(),
    "leo": leo(),
}
