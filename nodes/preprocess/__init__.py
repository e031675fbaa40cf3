"""Preprocessors: pictures to the hints that ControlNets take, on a chosen device."""
