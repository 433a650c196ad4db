namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>Makes pages answers.</summary>
public static class PageResultExtensions
{
    /// <summary>200 with the page as JSON and with <c>Link</c> headers.</summary>
    /// <typeparam name="T">An item.</typeparam>
    /// <param name="page">The page.</param>
    /// <returns>The result, for a minimal API's handler or a controller's action.</returns>
    public static PageResult<T> ToResult<T>(this Page<T> page)
    {
        ArgumentNullException.ThrowIfNull(page);
        return new PageResult<T>(page);
    }
}
