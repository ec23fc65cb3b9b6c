"""The judge: reads what a clip of the toy world shows, from its pixels alone.

`judge_clip` reads clips, `judge_picture` single pictures. Neither uses a model or the prompt:

1. The background is the median colour of the border. The colour is the one whose shades,
   mixed with the background, best explain the pixels that are not background (`find`).
2. The object's box is found in each frame, and what is in the box is compared with
   everything that the renderer can draw: each shape in each style, each view of each solid
   (`templates`). What explains all frames together best is read. A second step, along
   the gradients of that template, refines its centre and radius to a fraction of a pixel.
3. Each motion's model is fitted to the path of centre and radius; the best fit is read
   (`motion`). The views of a solid are read together, as a steady turn (`turn`).
4. What the fitted motion leaves unexplained is the temporal error (`Verdict`).

A reading is None where nothing can be read, or where it does not hold for the whole clip.
"""

from __future__ import annotations

from gridctl.tiny.judge.verdict import Reading, Verdict, judge_clip, judge_picture

__all__ = ["Reading", "Verdict", "judge_clip", "judge_picture"]
