namespace Backend.Toolkit.Pagination;

/// <summary>What pages look like, how many are read, and how large they may be.</summary>
public sealed class PageReaderOptions : IValidOptions
{
    /// <summary>Begins each problem sentence.</summary>
    public string Name { get; set; } = "";

    /// <summary>The property of a page that holds the items; a page that is an array holds them itself. Default <c>items</c>.</summary>
    public string ItemsProperty { get; set; } = "items";

    /// <summary>The property of a page that holds the next cursor, or a link, where no <c>Link</c> header says <c>rel="next"</c>. Default <c>next</c>.</summary>
    public string NextProperty { get; set; } = "next";

    /// <summary>The parameter of the query in which a cursor is sent. Default <c>cursor</c>.</summary>
    public string CursorParameter { get; set; } = "cursor";

    /// <summary>The most pages that are read; when there are more, that is an exception that says where to go on. 1 to 10 000 000; default 10 000.</summary>
    public int MaxPages { get; set; } = 10_000;

    /// <summary>The most bytes of a page, decompressed; it is held in memory while it is read. 1 to 1 073 741 824; default 16 MiB.</summary>
    public int MaxPageBytes { get; set; } = 16 * 1024 * 1024;

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (string.IsNullOrEmpty(ItemsProperty))
        {
            yield return this.Problem(nameof(ItemsProperty), "the name of a property", "empty");
        }

        if (string.IsNullOrEmpty(NextProperty))
        {
            yield return this.Problem(nameof(NextProperty), "the name of a property", "empty");
        }

        if (string.IsNullOrEmpty(CursorParameter))
        {
            yield return this.Problem(nameof(CursorParameter), "the name of a parameter", "empty");
        }

        if (MaxPages is < 1 or > 10_000_000)
        {
            yield return this.Problem(nameof(MaxPages), "between 1 and 10000000", MaxPages);
        }

        if (MaxPageBytes is < 1 or > 1_073_741_824)
        {
            yield return this.Problem(nameof(MaxPageBytes), "between 1 and 1073741824", MaxPageBytes);
        }
    }
}
