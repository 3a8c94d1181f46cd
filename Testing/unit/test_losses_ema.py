"""The moving-average teacher against its closed form (methods §0.7)."""

import pytest
import torch
from torch import nn

from SemiSupSegLib.losses.ema import ema_decay, teacher_of, update_teacher


def scalar(value):
    module = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(module.weight, value)
    return module


def test_fifteen_updates_of_a_scalar_follow_the_closed_form():
    student = scalar(0.0)
    teacher = scalar(5.0)
    values = []

    for iteration in range(15):
        nn.init.constant_(student.weight, iteration + 1.0)
        update_teacher(teacher, student, iteration, 0.5)
        values.append(teacher.weight.item())

    # 1 + 10 t / 11 until t / (t + 10) is a half, then the mean of the former and t + 1.
    worked = {0: 1.0, 1: 1.909091, 2: 2.818182, 10: 10.090909, 11: 11.045455, 12: 12.022727}
    assert {t: values[t] for t in worked} == pytest.approx(worked, abs=1e-6)


def test_the_first_update_copies_the_student():
    student = nn.Conv3d(2, 3, 3)
    teacher = teacher_of(nn.Conv3d(2, 3, 3))

    update_teacher(teacher, student, 0, 0.99)

    assert torch.equal(teacher.weight, student.weight)
    assert torch.equal(teacher.bias, student.bias)


def test_a_constant_student_leaves_its_teacher_bitwise_equal():
    student = nn.Linear(50, 50)
    teacher = teacher_of(student)

    for iteration in range(20):
        update_teacher(teacher, student, iteration, 0.99)

    assert torch.equal(teacher.weight, student.weight)


def test_a_teacher_moves_by_its_share_of_the_difference():
    student, teacher = nn.Linear(4, 4), teacher_of(nn.Linear(4, 4))
    before = teacher.weight.clone()

    update_teacher(teacher, student, 10_000, 0.99)

    torch.testing.assert_close(teacher.weight, before + 0.01 * (student.weight - before))


def test_floating_buffers_move_and_integer_buffers_are_copied():
    student, teacher = nn.BatchNorm3d(2), teacher_of(nn.BatchNorm3d(2))
    student.running_mean.fill_(10)
    student.num_batches_tracked.fill_(7)

    update_teacher(teacher, student, 10_000, 0.9)

    torch.testing.assert_close(teacher.running_mean, torch.tensor([1.0, 1.0]))
    assert teacher.num_batches_tracked == 7


def test_a_teacher_is_a_copy_in_eval_mode_that_no_optimizer_can_move():
    student = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    teacher = teacher_of(student)

    assert not teacher.training
    assert not teacher[1].training
    assert student.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert teacher[0].weight.data_ptr() != student[0].weight.data_ptr()


def test_the_decay_grows_to_its_limit():
    assert [ema_decay(t, 0.99) for t in (0, 10, 90, 990, 10_000)] == pytest.approx(
        [0, 0.5, 0.9, 0.99, 0.99]
    )


def test_other_architectures_and_decays_are_refused():
    with pytest.raises(ValueError, match="differ in bias"):
        update_teacher(nn.Linear(1, 1), nn.Linear(1, 1, bias=False), 0, 0.9)
    with pytest.raises(ValueError, match=r"decay is 1\.5"):
        update_teacher(nn.Linear(1, 1), nn.Linear(1, 1), 0, 1.5)
