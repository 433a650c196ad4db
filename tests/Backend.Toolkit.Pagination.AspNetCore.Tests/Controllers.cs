using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Mvc.ApplicationParts;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

/// <summary>Says that there are controllers.</summary>
internal sealed class Controllers
{
    public static void Add(IServiceCollection services)
    {
        services.AddSingleton<Controllers>().AddHttpPagination();
        AddAlone(services);
    }

    public static void AddAlone(IServiceCollection services) =>
        services.AddControllers().ConfigureApplicationPartManager(parts => parts.ApplicationParts.Add(new AssemblyPart(typeof(Controllers).Assembly)));
}

[ApiController]
[Route("/api-orders")]
public sealed class ApiOrdersController(CursorPaginator paginator) : ControllerBase
{
    [HttpGet]
    public PageResult<Order> Get(PageQuery query, [FromHeader(Name = "X-Tenant")] string? tenant = null) => Order.Page(query, paginator, tenant).ToResult();

    [HttpGet("bare")]
    public Page<Order> Bare(PageQuery query) => Order.Page(query, paginator);

    [HttpGet("from-query")]
    public PageResult<Order> FromQuery([FromQuery] PageQuery query) => Order.Page(query, paginator).ToResult();

    [HttpGet("part-of-more")]
    public PageResult<Order> PartOfMore([FromQuery] OrderFilter filter) => Order.Page(filter.Query!, paginator).ToResult();

    [HttpGet("either")]
    public Results<PageResult<Order>, NotFound> Either(PageQuery query) => Order.Page(query, paginator).ToResult();
}

/// <summary>Without <c>[ApiController]</c> nobody looks at the model state.</summary>
[Route("/plain-orders")]
public sealed class PlainOrdersController(CursorPaginator paginator) : Controller
{
    [HttpGet]
    public async Task<IResult> Get(PageQuery query, [FromHeader(Name = "X-Tenant")] string? tenant = null)
    {
        await Task.Yield();
        return Order.Page(query, paginator, tenant).ToResult();
    }
}

public sealed class OrderFilter
{
    public PageQuery? Query { get; set; }

    public string? Status { get; set; }
}
