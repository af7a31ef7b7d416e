"""DP-SGD at a party keeps within its budget, over rounds and restarts."""

import math
import sys

import pytest

from wardian.errors import ConfigError, FormatError, PolicyDenied
from wardian.learning.privacy.dpsgd import STATE, PrivateTraining, TrainingBudget
from wardian.learning.records import ConfigRecord, MetricRecord

BUDGET = TrainingBudget(epsilon=4.0, delta=1e-3, epochs=6)


@pytest.mark.parametrize(
    "changed",
    [
        {"epsilon": math.nan},
        {"epsilon": 0.0},
        {"delta": 1.0},
        {"delta": math.nan},
        {"epochs": 0},
        {"clip": 0.0},
        {"clip": math.inf},
        {"clip": math.nan},
    ],
)
def test_budgets_that_are_none(changed):
    with pytest.raises(ConfigError):
        TrainingBudget(**{"epsilon": 4.0, "delta": 1e-3, "epochs": 6, **changed})


@pytest.mark.parametrize("missing", ["opacus", "torch"])
def test_without_the_extra_it_says_what_to_install(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"pip install 'wardian\[dp-sgd\]' torch"):
        PrivateTraining(None, None, [], budget=BUDGET, state={}, epochs=1)


# With Opacus


@pytest.fixture
def torch():
    pytest.importorskip("opacus", reason="no Opacus: pip install 'wardian[dp-sgd]' torch")
    return pytest.importorskip("torch")


def round_of(torch, state, *, epochs, trained=None, seed=0):
    """Train a round; return what was spent, and the weights."""
    torch.manual_seed(seed)
    data = torch.utils.data.TensorDataset(torch.randn(64, 3), torch.randint(2, (64,)))
    model = torch.nn.Linear(3, 2)
    training = PrivateTraining(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        torch.utils.data.DataLoader(data, batch_size=16),
        budget=BUDGET,
        state=state,
        epochs=epochs,
    )
    for _ in range(epochs if trained is None else trained):
        for inputs, labels in training.loader:
            training.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(training.model(inputs), labels).backward()
            training.optimizer.step()
    return training.spent(state), model.weight.detach().clone()


@pytest.mark.filterwarnings("ignore")
def test_the_rounds_of_the_run_spend_the_budget_and_no_round_more(torch):
    state, spent = {}, []
    for _ in range(3):
        state = dict(state)  # as if it had been read from the disk
        spent.append(round_of(torch, state, epochs=2)[0])
    assert spent == sorted(spent)
    assert 3.95 < spent[-1] <= 4.0
    before = dict(state[STATE])
    with pytest.raises(PolicyDenied) as caught:
        round_of(torch, state, epochs=1)
    assert caught.value.rule == "privacy-budget"
    assert dict(state[STATE]) == before


@pytest.mark.filterwarnings("ignore")
def test_more_epochs_than_were_said_are_not_sent(torch):
    state = {}
    with pytest.raises(PolicyDenied):
        round_of(torch, state, epochs=1, trained=7)
    assert state == {}


@pytest.mark.filterwarnings("ignore")
def test_more_epochs_than_the_run_has_do_not_begin(torch):
    for epochs in (0, 7):
        with pytest.raises(PolicyDenied):
            round_of(torch, {}, epochs=epochs)


@pytest.mark.filterwarnings("ignore")
def test_a_seed_of_the_app_s_decides_neither_on_noise_nor_on_batches(torch):
    first, second = (round_of(torch, {}, epochs=1, seed=5)[1] for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kept",
    [
        ConfigRecord(),
        MetricRecord({"noises": [1.0], "rates": [0.1]}),
        MetricRecord({"noises": [1.0], "rates": [0.1], "steps": [1, 2]}),
        MetricRecord({"noises": 1.0, "rates": 0.1, "steps": 1}),
    ],
)
def test_a_state_that_does_not_say_what_was_spent(torch, kept):
    with pytest.raises(FormatError):
        round_of(torch, {STATE: kept}, epochs=1)
