"""`[caption]`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gridctl.profile.schema.engine import EngineSection
from gridctl.profile.values import (
    Count,
    FilePath,
    Layout,
    ModelName,
    QuestionText,
    Seconds,
    Text,
    Whole,
)
from gridctl.prompt import DEFAULT_QUESTION, LAYOUT_FIELDS, LAYOUTS, View

DEFAULT_VLM = "zai-org/GLM-4.1V-9B-Thinking"  # of the kind that the method's authors caption with


class CaptionSection(EngineSection):
    """Grid images → captions."""

    backend: Literal["template", "vlm", "server"] = Field(
        default="template",
        description="Source of the content. template: text that is there already. vlm: a "
        "vision-language model on this machine. server: an OpenAI-compatible server.",
    )
    layout: Layout = Field(
        default="video",
        description="Layout prompt, the sentence that describes the grid: "
        f"{', '.join(LAYOUTS)}, or a sentence with {LAYOUT_FIELDS}.",
    )
    subject: Text | None = Field(
        default=None,
        description="Content for clips that came without text. vlm and server get it as a hint.",
    )
    mapping: FilePath | None = Field(
        default=None,
        description="File with the content of each clip: CSV or JSONL with file_name and text, or "
        'TOML with name = "text".',
    )
    model: ModelName | None = Field(
        default=None,
        description=f"Vision-language model. For vlm a Hub id or folder, {DEFAULT_VLM} if unset. "
        "For server the name that the server knows it by.",
    )
    revision: str | None = Field(
        default=None, description="Branch, tag or commit of the vlm model on the Hub."
    )
    server: str | None = Field(
        default=None,
        min_length=1,
        description="URL of an OpenAI-compatible server, such as http://localhost:8000/v1.",
    )
    prompt: QuestionText = Field(
        default=DEFAULT_QUESTION,
        description="Question for the model. {shown} and {task} stand for sentences that fit the "
        "view and the layout.",
    )
    view: View = Field(
        default="grid",
        description="What the model sees: the grid as one picture, a few keyframes, or all frames "
        "as pictures.",
    )
    keyframes: Count = Field(default=4, description="Number of frames for view = keyframes.")
    image_side: Annotated[int, Field(ge=16, le=65_536)] = Field(
        default=1536,
        description="Longest side of a picture for the model, in pixels. Larger pictures are "
        "scaled down.",
    )
    max_tokens: Count = Field(
        default=1024,
        description="Length limit of an answer in tokens, including what the model thinks aloud.",
    )
    batch: Count = Field(
        default=4, description="Grids that vlm describes at once. Lower it to save memory."
    )
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=8, description="Requests to the server at the same time."
    )
    rate: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="Most requests per minute. Unset is no limit."
    )
    retries: Annotated[Whole, Field(le=1000)] = Field(
        default=6,
        description="Number of times a failed request is repeated, if the failure may pass.",
    )
    timeout_seconds: Annotated[Seconds, Field(gt=0)] = Field(
        default=120.0,
        description="Seconds to wait for the server before a request is repeated.",
    )
    key_variable: str = Field(
        default="OPENAI_API_KEY",
        min_length=1,
        description="Name of the environment variable that holds the server's key. The key itself "
        "is never written.",
    )
    request: dict[str, Any] = Field(
        default={},
        description="Extra fields of each request to the server, such as { temperature = 0.2 }.",
    )
