namespace Backend.Toolkit.Pagination;

/// <summary>Why a <see cref="PageReader{T}"/> stopped before the last page.</summary>
public enum PageReadReason
{
    /// <summary>A page named a next page that was read before.</summary>
    Loop,

    /// <summary>A page named, or was redirected to, another scheme, host or port than the first page's.</summary>
    OtherOrigin,

    /// <summary>There are more pages than <see cref="PageReaderOptions.MaxPages"/>.</summary>
    TooManyPages,

    /// <summary>A page is not JSON of the expected shape, has an item that is null, or a link that is none or longer than 65 536 characters.</summary>
    Malformed,

    /// <summary>A page is larger than <see cref="PageReaderOptions.MaxPageBytes"/>.</summary>
    TooLarge,
}
