namespace Backend.Toolkit.Pagination.EntityFrameworkCore.Tests;

/// <summary>Walks all pages, forward and then backward: put together they are the list that is expected, the ends are exact, and each page leads back to the one that it was reached from.</summary>
internal static class Walk
{
    public static async Task CheckAsync<TItem, TKey>(IReadOnlyList<TKey> expected, int[] sizes, Func<TItem, TKey> key, Func<PageRequest, Task<Page<TItem>>> source)
    {
        foreach (PageDirection direction in Enum.GetValues<PageDirection>())
        {
            bool isForward = direction == PageDirection.Forward;
            var seen = new List<TKey>();
            Page<TItem> page = await source(new PageRequest(null, sizes[0], direction));
            for (int turn = 1; ; turn++)
            {
                List<TKey> keys = [.. page.Items.Select(key)];
                seen.InsertRange(isForward ? seen.Count : 0, keys);
                (isForward ? page.Previous is null : page.Next is null).Should().Be(seen.Count == keys.Count, "there is no way back from the first page only");
                (isForward ? page.Next is null : page.Previous is null).Should().Be(seen.Count == expected.Count, "the end is where the rows end");
                seen.Should().Equal(isForward ? expected.Take(seen.Count) : expected.Skip(expected.Count - seen.Count));
                if ((isForward ? page.Next : page.Previous) is not string on)
                {
                    break;
                }

                Page<TItem> following = await source(new PageRequest(on, sizes[turn % sizes.Length]));
                Page<TItem> back = await source(new PageRequest(isForward ? following.Previous : following.Next, page.Items.Count));
                back.Items.Select(key).Should().Equal(keys);
                back.Next.Should().Be(page.Next, "the same position has the same cursor");
                back.Previous.Should().Be(page.Previous);
                page = following;
            }

            seen.Should().Equal(expected);
        }
    }
}
