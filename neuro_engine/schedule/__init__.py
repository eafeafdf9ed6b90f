"""The schedule of a batch on a chip's cores: which engine does what when, and what it waits for."""

from neuro_engine.schedule.pictures import chrome_trace, gantt_svg
from neuro_engine.schedule.result import Event, Lane, Schedule, Stall
from neuro_engine.schedule.scaling import Scaling, scaling
from neuro_engine.schedule.simulate import schedule

__all__ = ["Event", "Lane", "Scaling", "Schedule", "Stall", "chrome_trace", "gantt_svg", "scaling", "schedule"]
