namespace Shop;

/// <summary>
/// For what changes something and needs no sign-in: another site's page must not do it for whoever looks at it. Another port of this machine is another origin, too, although browsers call it the same site; a host name
/// that leads here by a trick is not from here. Programs that are no browser send neither header.
/// </summary>
internal static class FromHere
{
    public static ValueTask<object?> OnlyAsync(EndpointFilterInvocationContext invocation, EndpointFilterDelegate next)
    {
        HttpRequest request = invocation.HttpContext.Request;
        string site = request.Headers["Sec-Fetch-Site"].ToString(), origin = request.Headers.Origin.ToString(), here = $"{request.Scheme}://{request.Host}";
        return site is "" or "same-origin" or "none" && (origin is "" || origin == here) && new Uri(here).IsLoopback
            ? next(invocation)
            : ValueTask.FromResult<object?>(Results.Problem(statusCode: StatusCodes.Status403Forbidden, title: "Not from here.", detail: $"This must be asked from {here} itself, on this machine, but the request came from {(origin is "" ? "elsewhere" : origin)}."));
    }
}
