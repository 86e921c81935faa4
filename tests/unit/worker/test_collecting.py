"""What a worker refuses to serve: two definitions under one name, wherever they are found."""

import pytest

import aob


@aob.activity(name="pay")
async def pays(n: int) -> int:
    return n


@aob.activity(name="pay")
async def pays_otherwise(n: int) -> int:
    return -n


@aob.workflow(name="order")
async def orders(n: int) -> int:
    return n


@aob.workflow(name="order")
async def orders_otherwise(n: int) -> int:
    return -n


@aob.workflow
async def alone() -> None:
    return None


@pytest.mark.parametrize("activities", [(pays, pays_otherwise), ()])
async def test_two_activities_of_one_name_are_refused(activities: tuple[aob.Activity[..., int], ...]) -> None:
    async with aob.connect("sqlite://") as client:
        with pytest.raises(aob.DuplicateDefinition, match="pay"):
            async with client.serve(alone, activities=activities):
                pass


async def test_two_workflows_of_one_name_are_refused() -> None:
    async with aob.connect("sqlite://") as client:
        with pytest.raises(aob.DuplicateDefinition, match="order"):
            async with client.serve(orders, orders_otherwise):
                pass
