"""Why a verdict is what it is, in forms that can be checked."""
