"""Failed assertions of the shipped suites are explained like those of the tests."""

import pytest

pytest.register_assert_rewrite("aob.testing.conformance")
