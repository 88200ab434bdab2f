"""The links of the package's page: of pyproject.toml's one line that says where the repository is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Links(MetadataHookInterface):
    """Writes the links of the project, and makes those of the README absolute, as they have to be on PyPI."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the dynamic fields of the metadata."""
        repository = self.config["repository"].rstrip("/")
        files = f"{repository}/blob/main"
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        readme = re.sub(r"(!\[[^]]*\]\()(?!https?:|#)", rf"\1{repository}/raw/main/", readme)
        readme = re.sub(r"(?<!!)(\[[^]]*\]\()(?!https?:|#)", rf"\1{files}/", readme)
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}
        metadata["urls"] = {
            "Source": repository,
            "Documentation": f"{files}/docs/index.md",
            "Changelog": f"{files}/CHANGELOG.md",
            "Issues": f"{repository}/issues",
            "Security": f"{files}/SECURITY.md",
        }
