import pytest

from tests.worker.conftest import environment
from webapp import settings as console_settings
from webapp.settings import SettingsError
from worker import settings
from worker.app import JOB_S_MAX, configuration


@pytest.fixture
def shared():
    return console_settings.load(environment("postgresql://a@h/d", "postgresql://o@h/d", "rediss://:p@h:6380/0"))


def test_everything_has_a_default(shared):
    loaded = settings.load(shared, {})
    assert loaded.metrics_port == 0
    assert loaded.probe_interval_s == 10.0
    assert loaded.visibility_timeout_s > JOB_S_MAX
    assert loaded.identity_key_days == 30


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORKER_METRICS_PORT", "abc"),
        ("WORKER_METRICS_PORT", "65536"),
        ("WORKER_PROBE_SHARDS", "0"),
        ("WORKER_PROBE_SHARDS", "1.5"),
        ("WORKER_PROBE_INTERVAL_S", "nan"),
        ("WORKER_VISIBILITY_TIMEOUT_S", "-1"),
        ("WORKER_LOG_LEVEL", "LOUD"),
        ("IDENTITY_KEY_DAYS", "0"),
        ("IDENTITY_KEY_DAYS", "1.5"),
        ("IDENTITY_KEY_DAYS", "3651"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_variable(shared, variable, value):
    with pytest.raises(SettingsError, match=variable):
        settings.load(shared, {variable: value})


@pytest.mark.parametrize(
    "url",
    ["redis-cluster://h:1", "redis+cluster://h:1", "rediss+cluster://h", "valkey-cluster://h", "redis://a:1,b:2/0"],
)
def test_a_cluster_is_no_broker(url):
    with pytest.raises(SettingsError, match=r"CELERY_BROKER_URL.*Cluster"):
        settings.refuse_cluster("CELERY_BROKER_URL", url)


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://:p@h:1/0", "sentinel://a:1;sentinel://b:2"])
def test_a_single_server_and_a_sentinel_group_are(url):
    settings.refuse_cluster("CELERY_BROKER_URL", url)


def test_jobs_come_back_when_their_worker_dies_and_nothing_is_kept_of_their_results(shared):
    config = configuration(settings.load(shared, {}))
    assert config["task_acks_late"]
    assert config["task_reject_on_worker_lost"]
    assert config["worker_prefetch_multiplier"] == 1
    assert config["broker_transport_options"]["polling_interval"] > 2  # or lost jobs never come back on the gevent pool
    assert config["result_backend"] is None
    assert config["accept_content"] == ["json"]
    assert config["task_time_limit"] < config["broker_transport_options"]["visibility_timeout"]


def test_a_broker_over_tls_is_verified_unless_its_url_says_otherwise(shared):
    config = configuration(settings.load(shared, {}))
    assert config["broker_use_ssl"]["ssl_cert_reqs"].name == "CERT_REQUIRED"
    lax = console_settings.load(
        environment("postgresql://a@h/d", "postgresql://o@h/d", "rediss://:p@h:6380/0?ssl_cert_reqs=none")
    )
    assert "broker_use_ssl" not in configuration(settings.load(lax, {}))
