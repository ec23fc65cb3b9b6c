"""The attention kernel is the profile's, and cuDNN's is not for training."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from gridctl.errors import UsageError
from gridctl.models.attention import attention_kernel


@pytest.mark.parametrize("kind", ["auto", "flash", "math"])
def test_every_kernel_computes_the_same(kind: str) -> None:
    q, k, v = (torch.randn(1, 2, 8, 16) for _ in range(3))
    expected = torch.softmax(q @ k.transpose(-1, -2) / 4, dim=-1) @ v
    with attention_kernel(kind, training=True):
        result = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(("training", "allowed"), [(True, False), (False, True)])
def test_auto_has_cudnn_for_sampling_only(training: bool, allowed: bool) -> None:
    with attention_kernel("auto", training=training):
        assert torch.backends.cuda.cudnn_sdp_enabled() == allowed
        assert torch.backends.cuda.flash_sdp_enabled()


def test_a_kernel_that_is_not_there_is_one_line() -> None:
    q = torch.randn(1, 2, 8, 16)
    with (
        pytest.raises(UsageError, match='"cudnn" does not work') as error,
        attention_kernel("cudnn", training=False),
    ):
        F.scaled_dot_product_attention(q, q, q)
    assert "\n" not in str(error.value)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="mine"), attention_kernel("auto", training=True):
        raise RuntimeError("mine")
