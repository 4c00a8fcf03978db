"""Settings of CatalogMatch. All that differs between installations comes from the environment."""

import os
import tomllib
from pathlib import Path

import environ
from celery.schedules import schedule
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.utils.translation import gettext_lazy as _

from catalogmatch.operations import logs
from catalogmatch.web import csp
from core import files, redis_state
from core.clock import steady_now

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
environ.Env.read_env(os.environ.get("CATALOGMATCH_ENV_FILE", BASE_DIR / ".env"))

# --- Paths -----------------------------------------------------------------------------------

DATA_DIR = Path(env.str("CATALOGMATCH_DATA_DIR", default=str(BASE_DIR / "var"))).expanduser().resolve()
if not DATA_DIR.exists():
    files.make_folder(DATA_DIR)
MEDIA_ROOT = DATA_DIR / "media"
MEDIA_URL = "/media/"
ORIGINALS_ROOT = DATA_DIR / "originals"
INDEX_DIR = DATA_DIR / "index"
IMPORTS_ROOT = DATA_DIR / "imports"
TRAINED_ROOT = DATA_DIR / "trained"  # encoders
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]

# --- Security --------------------------------------------------------------------------------

DEBUG = env.bool("DJANGO_DEBUG", default=False)
SECRET_KEY = env.str("DJANGO_SECRET_KEY", default="")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "DJANGO_SECRET_KEY is not set. Put a long random value into the environment or the .env file. "
            "For a trial on your own machine you can set DJANGO_DEBUG=1 instead."
        )
    SECRET_KEY = "insecure-key-for-a-trial-with-debug-on-only"  # noqa: S105  # nosec B105 # only with DEBUG on
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("DJANGO_CSRF_TRUSTED_ORIGINS", default=[])
HTTPS = env.bool("DJANGO_HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
# Monitors ask these by address and without TLS: with any Host, and without a redirect.
PROBE_PATHS = ("/healthz", "/readyz", "/metrics")
SECURE_REDIRECT_EXEMPT = [rf"^{path[1:]}$" for path in PROBE_PATHS]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 12 * 3600  # a working day
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {"DIRECTIVES": csp.DENY_ALL}
SECURE_REFERRER_POLICY = "same-origin"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# Mails, such as the link of a forgotten password. By default they are written to the log.
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
EMAIL_TIMEOUT = 20  # seconds
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="CatalogMatch <catalogmatch@localhost>")
PASSWORD_RESET_TIMEOUT = 3600  # seconds that the link works

# --- Apps and middleware ---------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "catalogmatch",  # before the app whose runserver it replaces
    "catalogmatch.apps.CatalogAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_standardized_errors",
    "simple_history",
    "catalogmatch.accounts",
    "gpu",
    "products",
    "matching",
]
MIDDLEWARE = [
    "catalogmatch.web.request_log.RequestLogMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "catalogmatch.web.probes.HostMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "catalogmatch.web.request_limits.RequestLimitsMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "catalogmatch.web.csp.PolicyMiddleware",
]
ROOT_URLCONF = "catalogmatch.urls"
WSGI_APPLICATION = "catalogmatch.wsgi.application"
APPEND_SLASH = True  # for the admin; the API's URLs have no trailing slash
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.debug",
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG
# Users get images and static files from the web process, so no other account has to read them.
FILE_UPLOAD_PERMISSIONS = files.FILE_MODE
FILE_UPLOAD_DIRECTORY_PERMISSIONS = files.FOLDER_MODE

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]
FORMAT_MODULE_PATH = "catalogmatch.formats"
TIME_ZONE = env.str("TZ", default="UTC")
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Database --------------------------------------------------------------------------------

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'catalogmatch.sqlite3'}")}
# ATOMIC_REQUESTS stays off, because with IMMEDIATE transactions every GET would take SQLite's write lock.
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["ENGINE"] = "core.sqlite"
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-8192;"
            "PRAGMA mmap_size=268435456; PRAGMA journal_size_limit=67108864;"
        ),
    }
else:
    INSTALLED_APPS.append("matching.pgvector")
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # Without these, a server that vanishes from the network stops a worker for hours. Seconds, and milliseconds.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25_000,
    } | DATABASES["default"].get("OPTIONS", {})
# Opening SQLite costs a third of a small request (pragmas, schema, empty cache), so connections stay open.
DATABASES["default"]["CONN_MAX_AGE"] = 60

# --- Queue -----------------------------------------------------------------------------------

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="")
HAS_BROKER = bool(CELERY_BROKER_URL)
if HAS_BROKER and not redis_state.is_address(CELERY_BROKER_URL):
    raise ImproperlyConfigured(
        "CELERY_BROKER_URL is no address such as redis://:password@host:6379/0. Write special characters of the "
        "password as %XX, for example %2F for a slash."
    )
REDIS_SECONDS = 1.0  # a Redis that takes longer counts as unavailable
CELERY_TASK_ALWAYS_EAGER = not HAS_BROKER
CELERY_TASK_EAGER_PROPAGATES = False
CELERY_BROKER_URL = CELERY_BROKER_URL or "memory://"
CELERY_TASK_IGNORE_RESULT = True
# Redis is not trusted: nothing from it is unpickled, and no message in it can stop a worker.
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
# Messages are acknowledged before the job. The database is the queue, and the sweep finds what a dead worker left.
# A Celery worker with unacknowledged messages dies if Redis goes away.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "bulk"
CELERY_TASK_ROUTES = {
    "products.tasks.embed_question": {"queue": "questions"},
    "products.tasks.embed_text": {"queue": "questions"},
    "matching.tasks.explain": {"queue": "questions"},
    # The sweep is short and must not wait behind long bulk tasks.
    "products.tasks.sweep": {"queue": "questions"},
    "products.downloads.tasks.fetch_images": {"queue": "questions"},
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for Redis as long as it takes
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # also while Redis refuses commands: full, read-only, foreign values
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TASK_PUBLISH_RETRY = False  # the sweep replaces lost messages, and no upload waits for Redis
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # A request waits at most twice as long for a Redis that does not respond. See core.circuit_breaker.
    "socket_timeout": REDIS_SECONDS,
    "socket_connect_timeout": REDIS_SECONDS,
    # A worker notices a dead connection after about twice as many seconds.
    "health_check_interval": 10,
    # A publisher gives up after its second try. By default kombu tries for six seconds.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
    "queue_order_strategy": "priority",  # searches first: workers are started with -Q questions,bulk
}
SWEEP_SECONDS = env.int("CATALOGMATCH_SWEEP_SECONDS", default=30)
# The schedules use a steady clock. With the time of day, setting the clock back by a day would stop them for a day.
CELERY_BEAT_SCHEDULE = {
    "sweep": {
        "task": "products.tasks.sweep",
        "schedule": schedule(SWEEP_SECONDS, nowfun=steady_now),
        "options": {"expires": SWEEP_SECONDS},
    },
    "fetch-images": {
        "task": "products.downloads.tasks.fetch_images",
        "schedule": schedule(SWEEP_SECONDS, nowfun=steady_now),
        "options": {"expires": SWEEP_SECONDS},
    },
    "match-unmatched": {
        "task": "matching.tasks.match_unmatched",
        "schedule": schedule(SWEEP_SECONDS, nowfun=steady_now),
        "options": {"expires": SWEEP_SECONDS},
    },
    "follow-catalogue": {
        "task": "matching.tasks.follow_catalogue",
        "schedule": schedule(SWEEP_SECONDS, nowfun=steady_now),
        "options": {"expires": SWEEP_SECONDS},
    },
    "refresh-planner": {
        "task": "products.tasks.refresh_planner",
        "schedule": schedule(3600, nowfun=steady_now),
        "options": {"expires": 3600},
    },
    "prune-history": {
        "task": "products.tasks.prune_history",
        "schedule": schedule(600, nowfun=steady_now),
        "options": {"expires": 600},
    },
    "keep-calibrated": {
        "task": "matching.tasks.keep_calibrated",
        "schedule": schedule(300, nowfun=steady_now),
        "options": {"expires": 300},
    },
    "apply-policies": {
        "task": "matching.policy.tasks.apply_policies",
        "schedule": schedule(60, nowfun=steady_now),
        "options": {"expires": 60},
    },
    "self-audit": {
        "task": "matching.quality.tasks.audit_nightly",
        "schedule": schedule(600, nowfun=steady_now),
        "options": {"expires": 600},
    },
    "keep-index": {
        "task": "matching.tasks.keep_index",
        "schedule": schedule(60, nowfun=steady_now),
        "options": {"expires": 60},
    },
}
# A head that is learned at night and wins answers at once, without a look at what it changes. So this is off.
TRAIN_NIGHTLY = env.bool("CATALOGMATCH_TRAIN_NIGHTLY", default=False)
if TRAIN_NIGHTLY:
    CELERY_BEAT_SCHEDULE["learn-nightly"] = {
        "task": "matching.learning.tasks.learn_nightly",
        "schedule": schedule(600, nowfun=steady_now),
        "options": {"expires": 600},
    }
# Keeps the schedule in memory. A restart may run the hourly task early, which is harmless. The default scheduler writes
# a file, and a full disk would end it.
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"

# An image claimed longer ago than this belongs to a worker that is gone.
CLAIM_LEASE_SECONDS = env.int("CATALOGMATCH_CLAIM_LEASE_SECONDS", default=120)
# Attempts to embed an image before it is marked as failed.
MAX_ATTEMPTS = 3

CACHES = {
    "default": {
        "BACKEND": "core.json_cache.JSONCache",
        "LOCATION": CELERY_BROKER_URL,
        "KEY_PREFIX": "catalogmatch",
        "OPTIONS": {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS},
    }
    if HAS_BROKER
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    # The throttles of each process while Redis cannot be used.
    "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "process"},
}

# --- CLIP ------------------------------------------------------------------------------------

CLIP_CONFIG = {
    "model_name": env.str("CLIP_MODEL", default="clip-ViT-B-32"),
    # Further encoders that every image is embedded with, for heads over several of them.
    "extra_models": [name.strip() for name in env.list("CLIP_EXTRA_MODELS", default=[]) if name.strip()],
    "text_model": env.str("CLIP_TEXT_MODEL", default=""),  # "": the model's own text encoder
    "batch_size": env.int("CLIP_BATCH_SIZE", default=0) or None,  # None: chosen from the device's memory
    "force_cpu": env.bool("CLIP_FORCE_CPU", default=False),
    "cache_dir": env.str("CLIP_CACHE_DIR", default="~/.cache/torch/sentence_transformers"),
    "device_priority": ["cuda", "mps", "cpu"],
    "backend": env.str("CLIP_BACKEND", default="auto"),
    # Whether workers measure by themselves which backend is the fastest, for "auto".
    "measure": env.bool("CLIP_MEASURE", default=True),
    "debug": env.bool("CLIP_DEBUG", default=False),
    "idle_unload_seconds": env.int("CLIP_IDLE_UNLOAD_SECONDS", default=0) or None,  # None: never
}

# --- Uploads ---------------------------------------------------------------------------------

MAX_PICTURES_PER_REQUEST = 100
MAX_REQUEST_BYTES = 512 * 1024 * 1024
FILE_UPLOAD_HANDLERS = [
    "products.images.upload_handlers.BoundedUploadHandler",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]
DATA_UPLOAD_MAX_NUMBER_FILES = MAX_PICTURES_PER_REQUEST
# Decoder processes for each process that accepts uploads.
DECODERS = env.int("CATALOGMATCH_DECODERS", default=min(4, os.cpu_count() or 1))
# CPU seconds that decoding one image may take.
DECODER_SECONDS = env.int("CATALOGMATCH_DECODER_SECONDS", default=10)
# How large JPEGs may be. Other formats have fixed, smaller limits (gpu/imaging/limits.py).
JPEG_MAX_BYTES = env.int("CATALOGMATCH_JPEG_MAX_MB", default=60) * 2**20
JPEG_MAX_PIXELS = env.int("CATALOGMATCH_JPEG_MAX_MEGAPIXELS", default=120) * 1_000_000
# Whether to keep the uploaded files, in ORIGINALS_ROOT, besides the stored images.
KEEP_ORIGINALS = env.bool("CATALOGMATCH_KEEP_ORIGINALS", default=False)
# The longer side of a stored image in pixels. Every model needs far less.
DERIVATIVE_MAX_SIDE = 1600
THUMBNAIL_SIDE = 320
UPLOAD_WAIT_SECONDS = 5.0
UPLOAD_WAIT_MAX_SECONDS = 60.0

# --- Fetching ---------------------------------------------------------------------------------

# Hosts, as "host" or "host:port", that may be in the own network. All others must be on the internet.
FETCH_PRIVATE_HOSTS = env.list("CATALOGMATCH_FETCH_PRIVATE_HOSTS", default=[])
# Seconds in all that fetching one address may take, redirects included.
FETCH_SECONDS = env.int("CATALOGMATCH_FETCH_SECONDS", default=60)
# Addresses that are fetched at once from one host.
FETCHES_PER_HOST = env.int("CATALOGMATCH_FETCHES_PER_HOST", default=4)
# Seconds before each further attempt to fetch an address that failed for a passing reason.
FETCH_PAUSES = [float(pause) for pause in env.list("CATALOGMATCH_FETCH_PAUSES", default=["1", "4", "16"])]
if min(FETCH_SECONDS, FETCHES_PER_HOST) < 1:
    raise ImproperlyConfigured("CATALOGMATCH_FETCH_SECONDS and CATALOGMATCH_FETCHES_PER_HOST must be at least 1.")

# --- Room on the disk -------------------------------------------------------------------------

# Nothing more is stored if less space than this would stay free.
DISK_RESERVE_BYTES = env.int("CATALOGMATCH_DISK_RESERVE_MB", default=1024) * 2**20
# What each part may take. 0: only the reserve limits it.
QUOTA_BYTES = {
    part: env.int(f"CATALOGMATCH_QUOTA_{part.upper()}_MB", default=0) * 2**20
    for part in ("images", "originals", "imports", "history")
}
# History entries older than this are deleted. 0: never.
HISTORY_DAYS = env.int("CATALOGMATCH_HISTORY_DAYS", default=0)
if min(DISK_RESERVE_BYTES, HISTORY_DAYS, *QUOTA_BYTES.values()) < 0:
    raise ImproperlyConfigured("The disk reserve, the quotas and CATALOGMATCH_HISTORY_DAYS cannot be negative.")

# --- API -------------------------------------------------------------------------------------

NUM_PROXIES = env.int("DJANGO_NUM_PROXIES", default=0)
if NUM_PROXIES < 0:
    raise ImproperlyConfigured("DJANGO_NUM_PROXIES is a number of proxies. It cannot be negative.")
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "catalogmatch.api.authentication.TokenAuthentication",
        "catalogmatch.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["catalogmatch.api.permissions.RolePermission"],
    "DEFAULT_THROTTLE_CLASSES": ["catalogmatch.api.throttling.ApiThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "user": env.str("CATALOGMATCH_API_RATE", default="6000/min"),
        "login": env.str("CATALOGMATCH_LOGIN_RATE", default="5/min"),  # per address
        "account": env.str("CATALOGMATCH_ACCOUNT_RATE", default="20/min"),  # per user, from all addresses
        "reset": env.str("CATALOGMATCH_RESET_RATE", default="5/hour"),  # mails to one address
    },
    "NUM_PROXIES": NUM_PROXIES,
    "DEFAULT_PAGINATION_CLASS": "catalogmatch.api.pagination.Pages",
    "PAGE_SIZE": 50,
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PARSER_CLASSES": [
        "products.api.parsers.BoundedJSONParser",
        "rest_framework.parsers.FormParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "catalogmatch.api.errors.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "catalogmatch.api.errors.ProblemHandler",
    "EXCEPTION_FORMATTER_CLASS": "catalogmatch.api.errors.ProblemFormatter",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "CatalogMatch",
    "DESCRIPTION": "Is this new product one that we already have, and which?",
    "VERSION": tomllib.loads((BASE_DIR / "pyproject.toml").read_text("utf-8"))["project"]["version"],
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SCHEMA_PATH_PREFIX": "/api",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "catalogmatch.api.openapi.add_problems",
    ],
}

# --- Admin -----------------------------------------------------------------------------------

LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
UNFOLD = {
    "SITE_TITLE": "CatalogMatch",
    "SITE_HEADER": "CatalogMatch",
    "SITE_SUBHEADER": _("Is this product one that we already have?"),
    "SITE_SYMBOL": "join_inner",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("catalogmatch/icon.svg")},
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda _request: static("catalogmatch/admin.css")],
    "SCRIPTS": [lambda _request: static("catalogmatch/admin.js")],
    "COLORS": {
        "primary": {
            "50": "#eff6ff", "100": "#dbeafe", "200": "#bfdbfe", "300": "#93c5fd", "400": "#60a5fa", "500": "#60a5fa",
            "600": "#2563eb", "700": "#1d4ed8", "800": "#1e40af", "900": "#1e3a8a", "950": "#172554",
        },
    },
    "DASHBOARD_CALLBACK": "catalogmatch.admin.home.dashboard",
    "SIDEBAR": {"navigation": "catalogmatch.site.navigation"},
}  # fmt: skip

# --- Logging and metrics ---------------------------------------------------------------------

LOGGING = logs.configuration(as_json=env.bool("CATALOGMATCH_LOG_JSON", default=False), debug=bool(CLIP_CONFIG["debug"]))
# The bearer token of /metrics. Without one the page is a 404.
METRICS_TOKEN = env.str("CATALOGMATCH_METRICS_TOKEN", default="")

# --- Production ------------------------------------------------------------------------------

# In production, refuse to start with settings that are only fit for trials.
if env.bool("CATALOGMATCH_PRODUCTION", default=False):
    problems = [
        reason
        for is_wrong, reason in (
            (DEBUG, "DJANGO_DEBUG is on, so errors show settings and code to every visitor."),
            (len(SECRET_KEY) < 50, "DJANGO_SECRET_KEY is shorter than 50 characters."),
            (not HAS_BROKER, "CELERY_BROKER_URL is not set, so requests would wait while images are embedded."),
            ("*" in ALLOWED_HOSTS, "DJANGO_ALLOWED_HOSTS allows every name."),
            (not HTTPS, "DJANGO_HTTPS is off, so passwords and tokens are sent unencrypted."),
        )
        if is_wrong
    ]
    if problems:
        raise ImproperlyConfigured(f"CATALOGMATCH_PRODUCTION=1, but: {' '.join(problems)} See docs/configuration.md.")
