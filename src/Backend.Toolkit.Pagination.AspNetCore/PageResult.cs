using System.Reflection;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Json;
using Microsoft.AspNetCore.Http.Metadata;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>
/// 200 with a page as JSON, <c>{ "items": [...], "next": "...", "previous": null }</c>, and a <c>Link</c> header (RFC 8288) to the next and previous ones. A result of minimal APIs, alone and in
/// <c>Results&lt;…&gt;</c>, and of controllers. Made by <see cref="PageResultExtensions.ToResult{T}"/>. It is written by the JSON options of minimal APIs; source-generated ones must know <see cref="Page{T}"/> of <typeparamref name="T"/>.
/// </summary>
/// <typeparam name="T">An item.</typeparam>
public sealed class PageResult<T> : IResult, IEndpointMetadataProvider, IStatusCodeHttpResult, IContentTypeHttpResult, IValueHttpResult, IValueHttpResult<Page<T>>
{
    internal PageResult(Page<T> page) => Page = page;

    /// <summary>The page.</summary>
    public Page<T> Page { get; }

    /// <inheritdoc/>
    Page<T>? IValueHttpResult<Page<T>>.Value => Page;

    /// <inheritdoc/>
    object? IValueHttpResult.Value => Page;

    /// <inheritdoc/>
    int? IStatusCodeHttpResult.StatusCode => StatusCodes.Status200OK;

    /// <inheritdoc/>
    string? IContentTypeHttpResult.ContentType => "application/json; charset=utf-8";

    /// <summary>Writes the page.</summary>
    /// <param name="httpContext">The request.</param>
    /// <returns>When it is written.</returns>
    /// <exception cref="NotSupportedException">The JSON options do not know <see cref="Page{T}"/> of <typeparamref name="T"/>.</exception>
    public Task ExecuteAsync(HttpContext httpContext)
    {
        ArgumentNullException.ThrowIfNull(httpContext);
        JsonOptions options = httpContext.RequestServices.GetRequiredService<IOptions<JsonOptions>>().Value;
        var type = (JsonTypeInfo<Page<T>>)options.SerializerOptions.GetTypeInfo(typeof(Page<T>));
        PageLinks.Add(httpContext, Page.Next, Page.Previous);
        httpContext.Response.StatusCode = StatusCodes.Status200OK;
        return httpContext.Response.WriteAsJsonAsync(Page, type, contentType: null, httpContext.RequestAborted);
    }

    /// <summary>Tells the description of the endpoint what the answer looks like. Minimal APIs and controllers of APIs call it.</summary>
    /// <param name="method">The handler.</param>
    /// <param name="builder">The endpoint.</param>
    static void IEndpointMetadataProvider.PopulateMetadata(MethodInfo method, EndpointBuilder builder)
    {
        ArgumentNullException.ThrowIfNull(builder);
        builder.Metadata.Add(new ProducesResponseTypeMetadata(StatusCodes.Status200OK, typeof(Page<T>), ["application/json"]));
        builder.Metadata.Add(PageResultMetadata.Instance);
    }
}
