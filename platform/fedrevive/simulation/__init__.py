"""Virtual time: delays, the timeline of arrivals, the loop, and the inline executor. No Ray."""
