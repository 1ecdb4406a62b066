"""Blocks with the logins that providers of data ask for. A recipe names a field of one, never its value:

``--set source.key=block:knmi-credentials/NAME/api_key``,
``--set 'login={token: block:earthdata-credentials/NAME/token}'``.
"""

from typing import ClassVar, Self

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, model_validator

from tasks.lake.errors import AccessError, LakeError
from tasks.lake.http import Http

_TRIES = 2


class EarthdataCredentials(Block):
    """NASA Earthdata Login: a token, or a user and a password."""

    _block_type_name: ClassVar[str] = "Earthdata credentials"
    _block_type_slug: ClassVar[str] = "earthdata-credentials"
    _description: ClassVar[str] = "A login for protected NASA granules: a token, or a user and a password."

    token: SecretStr | None = Field(
        default=None, description="A bearer token from your Earthdata profile; lasts 60 days."
    )
    username: str | None = Field(default=None, description="User name, in the place of a token.")
    password: SecretStr | None = Field(default=None, description="Password of the user.")
    url: str = Field(default="https://urs.earthdata.nasa.gov", description="Where logins are checked.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = (self.token is not None, self.username is not None, self.password is not None)
        if given not in ((True, False, False), (False, True, True)):
            raise ValueError("either a token, or a user name and a password")
        return self

    def check(self) -> None:
        """Have the login accepted. Raises ``LakeError``: one sentence, without the secret."""
        headers, options = {}, {}
        if self.token is not None:
            headers = {"Authorization": f"Bearer {self.token.get_secret_value()}"}
            method, path = "GET", "api/users/user"
        else:
            assert self.username is not None
            assert self.password is not None
            options = {"auth": (self.username, self.password.get_secret_value())}
            method, path = "POST", "api/users/find_or_create_token"
        with Http(self.url, headers=headers, tries=_TRIES) as http:
            try:
                http.request(method, path, **options)
            except AccessError:
                raise AccessError(f"{self.url} refuses the login") from None


class KnmiCredentials(Block):
    """A key of the KNMI Data Platform."""

    _block_type_name: ClassVar[str] = "KNMI credentials"
    _block_type_slug: ClassVar[str] = "knmi-credentials"
    _description: ClassVar[str] = "An API key of the KNMI Data Platform, for the Environmental Data Retrieval API."

    api_key: SecretStr = Field(description="The key, as developer.dataplatform.knmi.nl shows it.")
    url: str = Field(default="https://api.dataplatform.knmi.nl/edr/v1", description="Where the key is checked.")

    def check(self) -> None:
        """Have the key accepted. Raises ``LakeError``: one sentence, without the secret."""
        with Http(self.url, headers={"Authorization": self.api_key.get_secret_value()}, tries=_TRIES) as http:
            try:
                http.get("collections")
            except AccessError:
                raise AccessError(f"{self.url} refuses the key") from None
            except LakeError as error:
                raise type(error)(f"{self.url} could not be asked ({type(error).__name__})") from None
